import numpy as np
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
