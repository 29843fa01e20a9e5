"""Sequences of Gymnasium become sets of entities, padded with zeros; what does not fit is one message."""

import numpy as np
import pytest
from gymnasium import spaces

from envs.gym.adapter import GymAdapter, behavior_spec
from envs.gym.saved_spaces import space_from_dict, space_to_dict
from envs.gym.values import WrongValue
from envs.spec import ObservationSpec, UserError, present
from tests.envs.gym.test_spaces import SpaceEnv

THINGS = spaces.Sequence(spaces.Box(-9, 9, (2,), np.float32))
STACKED = spaces.Sequence(spaces.Box(-9, 9, (1, 2), np.float64), stack=True)
ENV = SpaceEnv(spaces.Dict(me=spaces.Box(-1, 1, (1,)), seen=STACKED, things=THINGS), spaces.Discrete(2))


def observed(value, most=3):
    spec = behavior_spec(ENV, "toy", max_entities=most)
    rows = tuple(np.full(o.shape, 99, o.dtype) for o in spec.observations)
    GymAdapter(ENV, spec).observe(value, rows)
    return rows


def observation(things, seen=()):
    return {"me": [0.5], "seen": seen, "things": things}


def test_a_sequence_becomes_a_set_and_what_is_missing_is_zeros():
    spec = behavior_spec(ENV, "toy", max_entities=3)
    sets = [ObservationSpec(name, (3, 2), "float32", entities=True) for name in ("seen", "things")]
    assert spec.observations == (ObservationSpec("me", (1,), "float32"), *sets)
    _, seen, things = observed(observation((np.float32([1, 2]), np.float32([0, -3])), np.ones((3, 1, 2))))
    assert seen.tolist() == [[1, 1]] * 3
    assert things.tolist() == [[1, 2], [0, -3], [0, 0]]
    assert present(things).tolist() == [True, True, False]
    _, seen, things = observed(observation((), np.zeros((0, 1, 2))))
    assert not seen.any()
    assert not things.any()


def test_a_sequence_alone_is_an_observation_too():
    spec = behavior_spec(SpaceEnv(THINGS, spaces.Discrete(2)), "toy", max_entities=20)
    assert spec.observations == (ObservationSpec("observation", (20, 2), "float32", entities=True),)


def test_without_a_greatest_number_the_setting_is_named():
    with pytest.raises(UserError, match=r"observation space\['seen'\] is Sequence.* by env.max_entities"):
        behavior_spec(ENV, "toy")


@pytest.mark.parametrize("kind", [spaces.Discrete(3), spaces.Dict(a=spaces.Discrete(2)), spaces.Box(0, 1, ())])
def test_sequences_of_what_is_no_vector_are_refused(kind):
    with pytest.raises(UserError, match="of sequences, those of a Box with at least one axis are served"):
        behavior_spec(SpaceEnv(spaces.Sequence(kind), spaces.Discrete(2)), "toy", max_entities=3)


@pytest.mark.parametrize(
    ("things", "words"),
    [
        ([[1, 2]] * 4, "observation 'things' holds 4 entities, more than env.max_entities=3: raise that"),
        ([[1, 2, 3]], r"observation 'things' is \[\[1, 2, 3\]\], outside of its space"),
        ([[1, 2], [3]], "observation 'things' is no array"),
        (5, "observation 'things' is 5, outside of its space"),
        ([["a", "b"]], "outside of its space"),
        ([[1, np.nan]], "observation 'things' holds nan, where only finite numbers"),
        ([[1e300, 1]], "observation 'things' holds inf, where only finite numbers"),
    ],
)
def test_what_does_not_fit_is_one_message(things, words):
    with pytest.raises(WrongValue, match=words) as raised:
        observed(observation(things))
    assert "\n" not in str(raised.value)


def test_spaces_with_sequences_are_saved():
    assert space_from_dict(space_to_dict(ENV.observation_space)) == ENV.observation_space
