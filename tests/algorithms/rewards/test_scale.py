"""The scale of returns, against numbers computed by hand and by a plain loop."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms.rewards.scale import BOUND, MEMORY, ReturnScale, accumulate_forward
from buffers.rollout import RolloutReader
from buffers.rows import Writer
from tests.algorithms.loops import make_rows
from tests.algorithms.ppo.test_ppo import SPEC, fill

CPU = torch.device("cpu")


def made(*discounts):
    return ReturnScale([f"signal {i}" for i in range(len(discounts))], discounts, CPU)


def rollout(numbers, ends, following, terminated=False, overwritten=0):
    """Rows as a reader groups them: their numbers, where segments end, and the rows with which agents go on."""
    arrays = {"numbers": np.array(numbers), "ends": np.array(ends), "following": np.array(following)}
    arrays["firsts"] = np.concatenate(([0], arrays["ends"][:-1] + 1))
    return SimpleNamespace(**arrays, terminated=np.array([terminated]), overwritten=overwritten)


def measured(scale, rewards, *of_rollout, absorbing=0.0, **more):
    """What one signal's rewards do to its scale: old over new."""
    given = torch.tensor([rewards], dtype=torch.float32)
    return float(scale.measure(rollout(*of_rollout, **more), given, torch.tensor([absorbing])))


def expected_scale(returns):
    return max(np.std(returns), np.abs(returns).max() / BOUND)


def test_returns_of_interleaved_agents_go_on_where_each_of_them_stood():
    scale = made(0.5)
    # Rows 1, 3 of one agent, who goes on with 5; rows 2, 4 of another, who ends with 4.
    assert measured(scale, [1.0, 2.0, 4.0, 8.0], [1, 3, 2, 4], [1, 3], [5, 0]) == 1.0, "there was no scale before"
    returns = [1.0, 2.5, 4.0, 10.0]
    assert float(scale.scales) == pytest.approx(expected_scale(returns))
    # The first goes on from 2.5 with rows 5, 7; row 6 begins an episode.
    before = float(scale.scales)
    ratio = measured(scale, [1.0, 1.0, 3.0], [5, 7, 6], [1, 2], [9, 8])
    returns += [2.25, 2.125, 3.0]
    assert float(scale.scales) == pytest.approx(expected_scale(returns))
    assert ratio == pytest.approx(before / float(scale.scales))
    # Row 8 goes on from 3, row 9 does not come: it is waited for until it is overwritten.
    measured(scale, [1.0], [8], [0], [10])
    assert scale._awaited._numbers.tolist() == [9, 10]
    measured(scale, [1.0], [10], [0], [0], overwritten=9)
    assert scale._awaited._numbers.tolist() == []
    returns += [2.5, 2.25]
    assert float(scale.scales) == pytest.approx(expected_scale(returns))


def test_returns_of_a_buffer_are_those_of_a_plain_loop():
    rows = make_rows(SPEC, 1000)
    writer, reader, scale, seen = Writer(rows), RolloutReader(rows, 37), made(0.9), {}
    for part in range(3):
        fill(rows, writer, 40, seed=part)
        while (taken := reader.take_any()) is not None:
            follow = scale._follow(taken, torch.from_numpy(taken.rewards[None]).double())
            seen.update(zip(taken.numbers.tolist(), follow[0].tolist()))
    numbers = np.arange(1, rows.head + 1)
    names = ("agent", "reward", "terminated", "truncated", "final", "next")
    standing, expected = {}, {}
    for number, agent, reward, *ended, final, link in zip(numbers, *rows.gather(numbers, names)):
        if final or link < 0:
            continue
        expected[int(number)] = float(reward) + 0.9 * standing.get(agent, 0.0)
        standing[agent] = 0.0 if any(ended) else expected[int(number)]
    assert len(expected) > 400
    assert seen.keys() == expected.keys()
    assert [seen[number] for number in seen] == pytest.approx([expected[number] for number in seen], rel=1e-6)


def test_forward_sums_take_as_many_rounds_as_the_longest_segment():
    values = torch.arange(1.0, 8.0)[None]
    decay = torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5]])
    expected = [1.0, 2.5, 4.25, 4.0, 7.0, 9.5, 11.75]
    assert accumulate_forward(values, decay, 4)[0].tolist() == expected
    assert accumulate_forward(values, decay, 7)[0].tolist() == expected


def test_statistics_of_parts_are_those_of_the_whole():
    rng, scale = np.random.default_rng(0), made(0.0)
    whole = (rng.normal(5, 3, 600)).astype(np.float32)
    for part in np.split(whole, [1, 7, 300]):
        n = len(part)
        measured(scale, part, range(1, n + 1), [n - 1], [0])
    mean, variance, largest, scale_ = scale._statistics[:, 0].tolist()
    assert (mean, variance) == pytest.approx((whole.mean(), whole.var()), rel=1e-5)
    assert largest == pytest.approx(np.abs(whole).max(), rel=0.01)
    assert scale_ == pytest.approx(whole.std(), rel=1e-5)


def test_zeros_have_a_scale_of_1_and_a_reward_after_50_000_of_them_stays_within_the_bound():
    scale = made(0.99)
    for _ in range(50):
        assert measured(scale, [0.0] * 1000, range(1, 1001), [999], [0]) == 1.0
    assert float(scale.scales) == 1.0
    assert measured(scale, [1e6], [1], [0], [0]) == 1.0, "what was predicted of zeros is not scaled"
    assert 1e6 / float(scale.scales) == pytest.approx(BOUND)


def test_a_constant_reward_stays_within_the_bound():
    scale, place = made(0.99), 0
    for _ in range(20):
        measured(scale, [7.0] * 500, range(place + 1, place + 501), [499], [place + 501])
        place += 500
        assert 700 / float(scale.scales) <= BOUND * 1.1
    assert 700 / float(scale.scales) > 1


def test_one_outlier_fades():
    scale = made(0.0)
    measured(scale, [1e4], [1], [0], [0])
    ordinary = [1.0, -1.0] * 5000
    scales = [(measured(scale, ordinary, range(1, 10_001), [9999], [0]), float(scale.scales))[1] for _ in range(400)]
    assert scales[0] > 900
    assert scales[-1] == pytest.approx(1.0, rel=0.05)
    assert all(late < early for early, late in pairwise(scales))
    assert scale.count == MEMORY


def test_what_follows_an_end_for_ever_is_part_of_the_bound():
    scale = made(0.99)
    measured(scale, [1.0], [1], [0], [0], absorbing=-500.0)
    assert float(scale.scales) == pytest.approx(0.1), "nothing has terminated"
    measured(scale, [1.0], [1], [0], [0], absorbing=-500.0, terminated=True)
    assert float(scale.scales) == pytest.approx(500 / BOUND)


def test_signals_have_discounts_and_scales_of_their_own():
    scale = made(0.0, 0.5)
    scale.measure(rollout([1, 2], [1], [0]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.zeros(2))
    assert scale.scales.tolist() == pytest.approx([0.1, 1.0])
    scale.measure(rollout([3, 4], [1], [0]), torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.zeros(2))
    assert scale.scales.tolist() == pytest.approx([0.1, expected_scale([0, 2, 2, 3])])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_changes_no_scale(bad):
    scale = made(0.9)
    measured(scale, [1.0, 3.0], [1, 2], [1], [3])
    before = float(scale.scales)
    assert measured(scale, [bad], [3], [0], [4]) == 1.0
    assert float(scale.scales) == before
    measured(scale, [1.0], [4], [0], [5])
    assert math.isfinite(float(scale.scales))


@pytest.mark.parametrize("power", [2.0**10, 2.0**-10, 2.0**-90])
def test_scales_follow_the_rewards(power):
    scales = made(0.9), made(0.9)
    rewards = torch.randn(1, 50)
    for scale, factor in zip(scales, (1.0, power)):
        scale.measure(rollout(range(1, 51), [49], [51]), rewards * factor, torch.zeros(1))
    assert float(scales[1].scales) == float(scales[0].scales) * power


def test_continuation_from_a_saved_state_is_exact():
    first, second = made(0.9, 0.5), made(0.9, 0.5)
    first.measure(rollout([1, 3, 2], [1, 2], [5, 4]), torch.randn(2, 3), torch.zeros(2))
    second.load_weights(first.weights())
    second.load_state_dict(first.state_dict())
    more = rollout([4, 5], [0, 1], [0, 6]), torch.randn(2, 2), torch.zeros(2)
    assert torch.equal(first.measure(more[0], more[1].clone(), more[2]), second.measure(*more))
    for one, other in zip(
        (*first.weights().values(), *first.state_dict().values()),
        (*second.weights().values(), *second.state_dict().values()),
    ):
        assert torch.equal(one, other)


def test_weights_of_a_run_in_raw_units_have_a_scale_of_1():
    scale = made(0.0)
    scale.load_weights({})
    assert measured(scale, [50.0], [1], [0], [0]) == pytest.approx(1 / 5), "predictions were in the game's units"


def test_a_signal_that_the_weights_do_not_know_begins_without_a_scale():
    known, more = made(0.9), made(0.9, 0.5)
    measured(known, [5.0], [1], [0], [0])
    more.load_weights(known.weights())
    assert more.scales.tolist() == [pytest.approx(0.5), 1.0]
    ratios = more.measure(rollout([1], [0], [0]), torch.tensor([[5.0], [5.0]]), torch.zeros(2))
    assert ratios.tolist() == [pytest.approx(1.0), 1.0]
