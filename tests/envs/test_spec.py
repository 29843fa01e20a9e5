import json
from dataclasses import replace

import pytest

from envs.spec import BehaviorSpec, ObservationSpec

SPEC = BehaviorSpec(
    "Gather",
    (
        ObservationSpec("place", (2,), "float32"),
        ObservationSpec("things", (20, 4), "float32", entities=True),
        ObservationSpec("goal", (3,), "float32", goal=True),
    ),
    branches=(5,),
)


def test_a_spec_is_read_back_as_it_was():
    assert BehaviorSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_specs_of_earlier_versions_say_nothing_of_sets_and_goals():
    saved = SPEC.to_dict()
    saved["observations"] = [{k: o[k] for k in ("name", "shape", "dtype", "scale")} for o in saved["observations"]]
    assert [(o.entities, o.goal) for o in BehaviorSpec.from_dict(saved).observations] == [(False, False)] * 3


def test_a_set_differs_from_an_array_of_its_shape_and_a_goal_from_nothing():
    place, things, goal = SPEC.observations
    other = replace(SPEC, observations=(place, replace(things, entities=False), replace(goal, goal=False)))
    assert SPEC.difference(other) == "observation 'things' is float32[20, 4] of entities, not float32[20, 4]"
    assert SPEC.difference(replace(SPEC, observations=(place, things, replace(goal, goal=False)))) is None


@pytest.mark.parametrize("change", [{"shape": [4]}, {"dtype": "uint8"}, {"goal": True}])
def test_what_can_be_no_set_is_refused(change):
    saved = SPEC.to_dict()
    saved["observations"][1].update(change)
    with pytest.raises(ValueError, match="cannot be a set of entities"):
        BehaviorSpec.from_dict(saved)
