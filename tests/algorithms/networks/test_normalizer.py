import numpy as np
import pytest
import torch

from algorithms.networks.normalizer import Normalizer


def test_merged_statistics_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(500, 3)) * [1, 10, 0.1] + [0, 1000, -5]).astype(np.float32)
    normalizer = Normalizer(3)
    for part in np.split(rows, [1, 40, 41, 300]):
        assert normalizer.merge(part)
    shift, scale = torch.zeros(3), torch.ones(3)
    normalizer.publish(shift, scale)
    np.testing.assert_allclose(shift, rows.astype(np.float64).mean(0), rtol=1e-5)
    np.testing.assert_allclose(1 / scale, rows.astype(np.float64).std(0), rtol=1e-3)


def test_rows_that_are_not_finite_are_refused():
    normalizer = Normalizer(2)
    normalizer.merge(np.ones((4, 2), np.float32))
    before = normalizer.state()
    assert not normalizer.merge(np.array([[1.0, np.nan]], np.float32))
    assert not normalizer.merge(np.array([[np.inf, 0.0]], np.float32))
    assert torch.equal(normalizer.state(), before)


def normalized(rows):
    rows = np.asarray(rows, np.float32).reshape(-1, 1)
    normalizer, shift, scale = Normalizer(1), torch.zeros(1), torch.ones(1)
    for part in np.array_split(rows, 7):
        normalizer.merge(part)
    normalizer.publish(shift, scale)
    return (torch.from_numpy(rows) - shift) * scale


@pytest.mark.parametrize(("size", "deviation"), [(0, 1e-5), (0, 1e-12), (1e-3, 1e-5), (1000, 0.1), (0, 1e9)])
def test_what_changes_comes_out_with_a_deviation_of_one_however_small_it_is(size, deviation):
    rows = size + deviation * np.random.default_rng(0).normal(size=5000)
    assert normalized(rows).std().item() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e-20, 1e30])
def test_what_never_changes_is_exactly_zero_and_what_it_changes_to_is_not_blown_up(value):
    rows = np.full((100, 1), value, np.float32)
    normalizer, shift, scale = Normalizer(1), torch.zeros(1), torch.ones(1)
    for part in np.split(rows, [1, 40, 41]):
        normalizer.merge(part)
    normalizer.publish(shift, scale)
    assert ((torch.from_numpy(rows) - shift) * scale).tolist() == [[0.0]] * 100
    assert scale.item() == 1


def test_rounding_is_no_news():
    """At 1000, neighbouring numbers of float32 are 6.1e-5 apart."""
    rows = 1000 + 1e-4 * np.random.default_rng(0).normal(size=5000)
    assert 0.05 < normalized(rows).std() < 0.2


def test_nothing_is_published_before_the_first_rows():
    shift, scale = torch.zeros(2), torch.ones(2)
    Normalizer(2).publish(shift, scale)
    assert shift.tolist() == [0, 0]
    assert scale.tolist() == [1, 1]


def test_restored_statistics_go_on_exactly():
    rng = np.random.default_rng(1)
    one = Normalizer(2)
    one.merge(rng.normal(size=(10, 2)))
    other = Normalizer(2)
    other.load_state(one.state())
    more = rng.normal(size=(7, 2))
    one.merge(more)
    other.merge(more)
    assert torch.equal(one.state(), other.state())
