import numpy as np
import pytest
import torch

from algorithms.metrics import (
    ERROR_VARIANCE,
    TARGET_VARIANCE,
    Averages,
    below,
    explained_variance,
    load_numpy_state,
    load_torch_state,
    numpy_state,
    seeded,
    variance,
)

YES, NO = torch.tensor(True), torch.tensor(False)


def test_averages_leave_skipped_updates_out_and_start_afresh_when_read():
    averages = Averages(["a", "b"], torch.device("cpu"))
    averages.add(torch.tensor([1.0, 2.0]), YES)
    averages.add(torch.tensor([float("nan"), 0.0]), NO)
    averages.add(torch.tensor([3.0, 4.0]), YES)
    assert averages.read() == {"a": 2.0, "b": 3.0, "not_finite/a": 1.0}
    assert averages.read() == {}


def test_what_was_not_finite_in_skipped_updates_alone_is_named():
    averages = Averages(["a", "b"], torch.device("cpu"))
    averages.add(torch.tensor([1.0, float("-inf")]), NO)
    assert averages.read() == {"not_finite/b": 1.0}


def test_seeded_modules_repeat_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    one, other = (seeded(lambda: torch.nn.Linear(3, 2), 7) for _ in range(2))
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_restored_numpy_generator_goes_on_exactly():
    one, other = np.random.default_rng(1), np.random.default_rng(2)
    one.random(5)
    load_numpy_state(other, numpy_state(one))
    assert (one.random(5) == other.random(5)).all()


def test_state_of_another_kind_of_device_is_left_out():
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    load_torch_state(generator, torch.zeros(16, dtype=torch.uint8))
    assert torch.equal(generator.get_state(), before)


def test_below_takes_the_entries_of_one_part():
    x = torch.zeros(1)
    assert below({"a/b": x, "ab": x}, "a/") == {"b": x}


def test_explained_variance_of_hand_computed_values():
    targets, values = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 3.0, 5.0])
    # Errors 0, -1, 1: variance 2/3. Targets: mean 3, variance (4 + 1 + 9) / 3.
    averages = {ERROR_VARIANCE: float(variance(targets - values)), TARGET_VARIANCE: float(variance(targets)), "a": 1.0}
    assert explained_variance(averages) == {"a": 1.0, "value/explained_variance": pytest.approx(1 - 2 / 14)}
    assert explained_variance({ERROR_VARIANCE: 0.0, TARGET_VARIANCE: 0.0}) == {}
    assert explained_variance({"a": 1.0}) == {"a": 1.0}


def test_variance_leaves_out_rows_that_do_not_count():
    values, loss_mask = torch.tensor([[1.0, 9.0, 3.0], [1.0, 9.0, 3.0]]), torch.tensor([1.0, 0.0, 1.0])
    assert float(variance(values, loss_mask)) == 1
