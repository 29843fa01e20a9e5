import torch

from algorithms.rewards.learned import OwnBatches
from tests.algorithms.rewards.intrinsic_steps import CONTINUOUS, steps_of

CPU = torch.device("cpu")


def test_as_many_batches_as_samples_ask_for_and_parts_are_owed():
    batches, steps = OwnBatches(0.3, 8, CPU, seed=0), steps_of(CONTINUOUS, 4)
    assert [len(list(batches.draw(steps, 4))) for _ in range(10)] == [1, 1, 1, 1, 2, 1, 1, 1, 1, 2]


def test_rounding_loses_no_update():
    batches, steps = OwnBatches(0.1, 8, CPU, seed=0), steps_of(CONTINUOUS, 4)
    assert sum(len(list(batches.draw(steps, 1))) for _ in range(100)) == 10


def test_few_steps_are_taken_whole_and_many_in_parts():
    few, many = steps_of(CONTINUOUS, 8), steps_of(CONTINUOUS, 9)
    batches = OwnBatches(1.0, 8, CPU, seed=0)
    assert all(batch is few for batch in batches.draw(few, 2))
    for batch in batches.draw(many, 2):
        assert len(batch.terminated) == len(batch.continuous) == len(batch.following[0]) == 8
        # Rows stay together.
        places = [(many.continuous == row).all(1).nonzero().item() for row in batch.continuous]
        assert torch.equal(batch.following[0], many.following[0][places])


def test_draws_go_on_from_a_saved_state():
    steps = steps_of(CONTINUOUS, 50)
    one, other = (OwnBatches(0.7, 8, CPU, seed) for seed in (0, 1))
    list(one.draw(steps, 2))
    other.load_state_dict(one.state_dict())
    mine, theirs = ([batch.continuous for batch in batches.draw(steps, 5)] for batches in (one, other))
    assert len(mine) == len(theirs) == 3
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs))
