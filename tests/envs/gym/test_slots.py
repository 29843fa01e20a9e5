import numpy as np
import pytest

from envs.gym.slots import Slots, allocate
from envs.spec import BehaviorSpec, ObservationSpec, UserError

SPEC = BehaviorSpec(
    "toy",
    (ObservationSpec("image", (3, 5), "uint8"), ObservationSpec("vector", (7,), "float32")),
    continuous_size=2,
    branches=(3, 2),
    masked=True,
)


def fields(slots):
    views = dict(vars(slots))
    for name in ("observations", "final_observations"):
        views |= {f"{name}{k}": view for k, view in enumerate(views.pop(name))}
    return views


def test_fields_start_at_zero_and_never_overlap():
    views = fields(Slots(SPEC, 5, allocate(SPEC, 5)))
    assert not any(view.any() for view in views.values())
    for number, view in enumerate(views.values(), start=1):
        view[...] = number
    for number, view in enumerate(views.values(), start=1):
        np.testing.assert_array_equal(view, np.full(view.shape, number).astype(view.dtype))
    shapes = {name: view.shape for name, view in views.items()}
    assert shapes["observations0"] == (5, 3, 5)
    assert shapes["mask"] == (5, 5)
    assert shapes["continuous"] == (5, 2)
    assert shapes["discrete"] == (5, 2)


def test_views_of_one_block_share_it():
    block = allocate(SPEC, 3)
    here, there = Slots(SPEC, 3, block), Slots(SPEC, 3, block)
    here.reward[1] = 2.5
    assert there.reward.tolist() == [0, 2.5, 0]


def test_a_spec_without_actions_of_a_kind_has_empty_fields():
    spec = BehaviorSpec("toy", (ObservationSpec("vector", (1,), "float32"),), branches=(2,))
    slots = Slots(spec, 4, allocate(spec, 4))
    assert slots.continuous.shape == (4, 0)
    assert slots.mask.shape == (4, 0)


def test_slots_that_do_not_fit_are_refused_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr("envs.process.ram.available_memory", lambda: 2**20)
    spec = BehaviorSpec("A", (ObservationSpec("image", (512, 512, 3), "uint8"),), 1)
    with pytest.raises(UserError, match=r"4 instances \(env.instances\) need 6.0 MiB of shared memory, but 1.0 MiB"):
        allocate(spec, 4)
