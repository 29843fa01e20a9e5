from itertools import product

from envs.seeding import episode_seed


def test_seeds_differ_for_every_run_instance_and_episode():
    seeds = {episode_seed(*three) for three in product(range(3), range(20), range(50))}
    assert len(seeds) == 3 * 20 * 50
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_seeds_never_change_between_versions():
    assert episode_seed(1, 2, 3) == 1911094848
