import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.gym.adapter import GymAdapter, behavior_spec
from envs.gym.observations import observation_parts
from envs.gym.spaces import ActionCodec, scalar_metrics, write_mask
from envs.gym.values import WrongValue
from envs.spec import ObservationSpec, UserError

OBSERVATIONS = [
    (spaces.Box(-1, 1, (3,), np.float64), [0.5, -1, 0.25], [("observation", (3,), "float32", 1.0)], [[0.5, -1, 0.25]]),
    (spaces.Box(-1, 1, (), np.float32), 0.5, [("observation", (1,), "float32", 1.0)], [[0.5]]),
    (spaces.Box(0, 255, (2, 1), np.uint8), [[7], [255]], [("observation", (2, 1), "uint8", 1 / 255)], [[[7], [255]]]),
    (spaces.Box(0, 1, (2,), np.uint8), [0, 1], [("observation", (2,), "uint8", 1.0)], [[0, 1]]),
    (spaces.Box(-9, 9, (2,), np.int64), [-9, 3], [("observation", (2,), "float32", 1.0)], [[-9, 3]]),
    (spaces.Discrete(4), 2, [("observation", (4,), "uint8", 1.0)], [[0, 0, 1, 0]]),
    (spaces.Discrete(3, start=-1), -1, [("observation", (3,), "uint8", 1.0)], [[1, 0, 0]]),
    (spaces.MultiDiscrete([2, 3]), [1, 2], [("observation", (5,), "uint8", 1.0)], [[0, 1, 0, 0, 1]]),
    (spaces.MultiDiscrete([2, 2], start=[5, -1]), [6, -1], [("observation", (4,), "uint8", 1.0)], [[0, 1, 1, 0]]),
    (spaces.MultiBinary(3), [1, 0, 1], [("observation", (3,), "uint8", 1.0)], [[1, 0, 1]]),
    (
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple((spaces.MultiBinary(1), spaces.Box(0, 9, (1,))))),
        {"a": 1, "b": ([0], [4.5])},
        [("a", (2,), "uint8", 1.0), ("b/0", (1,), "uint8", 1.0), ("b/1", (1,), "float32", 1.0)],
        [[0, 1], [0], [4.5]],
    ),
]


FRAMES_LAST = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
"""Two frames (H, W, C) of three colours."""


class SpaceEnv(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize(
    ("space", "value", "specs", "expected"), OBSERVATIONS, ids=[str(row[0]) for row in OBSERVATIONS]
)
def test_observations_become_the_arrays_of_their_spec(space, value, specs, expected):
    env = SpaceEnv(space, spaces.Discrete(2))
    spec = behavior_spec(env, "toy")
    assert spec.observations == tuple(ObservationSpec(*row) for row in specs)
    rows = tuple(np.full(o.shape, 99, o.dtype) for o in spec.observations)
    GymAdapter(env, spec).observe(value, rows)
    for row, right in zip(rows, expected):
        np.testing.assert_array_equal(row, right)


@pytest.mark.parametrize(
    ("space", "scale"),
    [
        (spaces.Box(0, 255, (8, 8, 3), np.float32), 1 / 255),
        (spaces.Box(0, 255, (8, 8, 3), np.int64), 1 / 255),
        (spaces.Box(0, 65_535, (8, 8, 1), np.uint16), 1 / 65_535),
        (spaces.Box(0, 1, (8, 8, 3), np.float32), 1.0),
        (spaces.Box(-1, 1, (8, 8, 3), np.float32), 1.0),
        (spaces.Box(-0.25, 0.5, (8, 8, 3), np.float32), 2.0),
        (spaces.Box(-10, 4, (2, 8, 8, 3), np.float64), 0.1),
        (spaces.Box(0, np.inf, (8, 8, 3), np.float32), 1.0),
        (spaces.Box(0, np.finfo(np.float32).max, (8, 8, 3), np.float32), 1.0),
        (spaces.Box(0, 0, (8, 8, 3), np.float32), 1.0),
        (spaces.Box(0, 255, (8, 8), np.float32), 1.0),  # no image
    ],
    ids=str,
)
def test_float_images_are_scaled_by_their_bounds(space, scale):
    (part,) = observation_parts(space)
    assert (part.spec.dtype, part.spec.scale) == ("float32", pytest.approx(scale, rel=1e-7))


@pytest.mark.parametrize("space", [spaces.Box(0.0, 1.0, (10, 10, 4), np.bool_), spaces.MultiBinary((10, 10, 4))])
def test_images_of_bool_are_zeros_and_ones_of_a_byte(space):
    (part,) = observation_parts(space)
    assert part.spec == ObservationSpec("observation", (10, 10, 4), "uint8", 1.0)
    row, value = np.full((10, 10, 4), 99, np.uint8), space.sample()
    part.write(value, row)
    np.testing.assert_array_equal(row, value)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (FRAMES_LAST, np.concatenate(FRAMES_LAST, axis=2)),
        (FRAMES_LAST.transpose(0, 3, 1, 2)[:, :2], np.concatenate(FRAMES_LAST.transpose(0, 3, 1, 2)[:, :2])),
        (FRAMES_LAST[..., :1], np.stack(FRAMES_LAST[..., 0], axis=2)),
    ],
    ids=["channels last", "channels first", "grey"],
)
def test_stacked_frames_become_the_channels_of_one_image_the_first_frames_first(frames, expected):
    (part,) = observation_parts(spaces.Box(0, 255, frames.shape, np.uint8))
    assert part.spec == ObservationSpec("observation", expected.shape, "uint8", 1 / 255)
    row = np.zeros(expected.shape, np.uint8)
    part.write(frames, row)
    np.testing.assert_array_equal(row, expected)
    with pytest.raises(WrongValue, match="its space says"):
        part.write(frames[:1], row)


def test_frames_that_gymnasium_stacks_are_one_image():
    class Camera(SpaceEnv):
        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

    camera = Camera(spaces.Box(0, 255, (84, 84, 3), np.uint8), spaces.Discrete(2))
    env = gymnasium.wrappers.FrameStackObservation(camera, 4)
    spec = behavior_spec(env, "toy")
    assert spec.observations[0].shape == (84, 84, 12)
    row = np.zeros((84, 84, 12), np.uint8)
    observation, _ = env.reset()
    GymAdapter(env, spec).observe(observation, (row,))
    np.testing.assert_array_equal(row[..., 9:], observation[3])


def test_images_are_left_as_earlier_versions_did_for_a_spec_of_theirs():
    space = spaces.Dict(
        bits=spaces.Box(0.0, 1.0, (10, 10, 4), np.bool_), stack=spaces.Box(0, 255, (2, 8, 8, 3), np.float32)
    )
    env = SpaceEnv(space, spaces.Discrete(2))
    spec = behavior_spec(env, "toy", prepare_images=False)
    assert [(o.shape, o.dtype, o.scale) for o in spec.observations] == [
        ((10, 10, 4), "float32", 1.0),
        ((2, 8, 8, 3), "float32", 1.0),
    ]
    rows, value = tuple(np.zeros(o.shape, o.dtype) for o in spec.observations), space.sample()
    GymAdapter(env, spec).observe(value, rows)
    np.testing.assert_array_equal(rows[1], value["stack"])


@pytest.mark.parametrize("space", [row[0] for row in OBSERVATIONS], ids=[str(row[0]) for row in OBSERVATIONS])
def test_sampled_observations_are_told_apart_and_fit(space):
    space.seed(3)
    parts = observation_parts(space)
    env = SpaceEnv(space, spaces.Discrete(2))
    adapter = GymAdapter(env, behavior_spec(env, "toy"))
    for _ in range(20):
        rows = tuple(np.zeros(part.spec.shape, part.spec.dtype) for part in parts)
        adapter.observe(space.sample(), rows)
        assert all(row.sum() == 1 for part, row in zip(parts, rows) if isinstance(space, spaces.Discrete))


@pytest.mark.parametrize(
    ("space", "continuous", "discrete", "action"),
    [
        (spaces.Box(np.float32([-2, 0]), np.float32([2, 1])), [-1, 1], [], [-2, 1]),
        (spaces.Box(-2, 2, (2,)), [5, -0.5], [], [2, -1]),
        (spaces.Box(0, 10, (1,), np.int64), [0.11], [], [6]),
        (spaces.Box(-1, 1, (2, 1)), [0.25, -0.25], [], [[0.25], [-0.25]]),
        (spaces.Box(0, 1, (2,), np.bool_), [0.1, -0.1], [], [True, False]),
        (spaces.Box(-1.5e308, 1.5e308, (2,), np.float64), [1, 0], [], [1.5e308, 0]),
        (spaces.Discrete(4), [], [3], 3),
        (spaces.Discrete(4, start=2), [], [0], 2),
        (spaces.MultiDiscrete([3, 2]), [], [2, 1], [2, 1]),
        (spaces.MultiDiscrete([3, 2], start=[1, -1]), [], [2, 1], [3, 0]),
        (spaces.MultiBinary(3), [], [1, 0, 1], [1, 0, 1]),
    ],
    ids=str,
)
def test_rows_of_actions_become_actions_of_the_space(space, continuous, discrete, action):
    codec = ActionCodec(space)
    assert (codec.continuous_size, len(codec.branches)) == (len(continuous), len(discrete))
    made = codec.decode(np.array(continuous, np.float32), np.array(discrete, np.int32))
    np.testing.assert_array_equal(made, action)
    assert space.contains(made)


def test_hybrid_actions_are_taken_in_the_order_of_the_space():
    space = spaces.Dict(
        aim=spaces.Box(0, 1, (2,)), pick=spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2)))
    )
    codec = ActionCodec(space)
    assert (codec.continuous_size, codec.branches) == (2, (3, 2, 2))
    action = codec.decode(np.float32([1, -1]), np.int32([2, 0, 1]))
    assert space.contains(action)
    np.testing.assert_array_equal(action["aim"], [1, 0])
    assert action["pick"][0] == 3
    np.testing.assert_array_equal(action["pick"][1], [0, 1])


@pytest.mark.parametrize(
    "space", [spaces.Box(-3, 5, (50,), np.float32), spaces.Box(-0.1, 0.7, (50,), np.float64)], ids=str
)
def test_scaled_actions_never_leave_their_bounds(space):
    codec = ActionCodec(space)
    for value in (-1, -2, 1, 7, np.float32(0.3)):
        assert space.contains(codec.decode(np.full(50, value, np.float32), np.zeros(0, np.int32)))


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (spaces.Text(5), spaces.Discrete(2), ["observation space", "Text", "env.wrappers"]),
        (spaces.Dict(a=spaces.Tuple((spaces.Graph(spaces.Box(0, 1, (1,)), None),))), spaces.Discrete(2), ["['a'][0]"]),
        (spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(2), ["Sequence"]),
        (spaces.Dict({}), spaces.Discrete(2), ["observation space is empty"]),
        (spaces.Discrete(2), spaces.Box(-np.inf, np.inf, (1,)), ["action space", "finite bounds", "env.wrappers"]),
        (spaces.Discrete(2), spaces.Dict(arm=spaces.Box(0, np.inf, (1,))), ["action space['arm']", "finite bounds"]),
        (spaces.Discrete(2), spaces.Tuple((spaces.Text(3),)), ["action space[0]", "Text"]),
        (spaces.Discrete(2), spaces.Tuple(()), ["action space is empty"]),
    ],
    ids=str,
)
def test_a_space_that_cannot_be_served_is_refused_by_name(observation, action, words):
    with pytest.raises(UserError) as refused:
        behavior_spec(SpaceEnv(observation, action), "toy")
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    "mask",
    [
        [1, 0, 0, 1, 1],
        np.array([1, 0, 0, 1, 1], np.int8),
        (np.array([1, 0]), np.array([0, 1, 1])),
        [[True, False], [False, True, True]],
    ],
    ids=["list", "array", "tuple of arrays", "list of lists"],
)
def test_masks_are_taken_in_every_form(mask):
    row = np.zeros(5, bool)
    write_mask(mask, (2, 3), row)
    np.testing.assert_array_equal(row, [1, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ([1, 1, 1], "3 entries"),
        ([], "0 entries"),
        (None, "action_mask is None"),
        ("ab", "action_mask is 'ab'"),
        ([1, 1, 0, 0, 0], "nothing in branch 1"),
        ([0, 0, 1, 1, 1], "nothing in branch 0"),
    ],
)
def test_a_mask_that_cannot_be_obeyed_is_refused(mask, words):
    with pytest.raises(WrongValue, match=words):
        write_mask(mask, (2, 3), np.zeros(5, bool))


def test_a_mask_without_branches_is_refused():
    with pytest.raises(UserError, match="no discrete branch"):
        behavior_spec(SpaceEnv(spaces.Discrete(2), spaces.Box(-1, 1, (1,))), "toy", masked=True)


def test_an_observation_of_the_wrong_size_is_refused_rather_than_repeated():
    env = SpaceEnv(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
    adapter = GymAdapter(env, behavior_spec(env, "toy"))
    with pytest.raises(WrongValue, match=r"shape \[1\]; its space says \[4\]"):
        adapter.observe(np.zeros(1), (np.zeros(4, np.float32),))


def test_metrics_are_the_plain_numbers_of_an_info():
    info = {"bubbles": 25, "solved": np.bool_(True), "mean": np.float32(0.5), "duration": 3.0, "name": "x", "v": [1]}
    assert scalar_metrics(info) == {"bubbles": 25.0, "solved": 1.0, "mean": 0.5}
    assert scalar_metrics({"huge": 10**400, "least": -(10**400)}) == {"huge": np.inf, "least": -np.inf}


def test_keys_of_an_info_become_text_that_can_be_written():
    assert scalar_metrics({1: 2.0, None: 1.0, ("a", 1): 3.0}) == {"1": 2.0, "None": 1.0, "('a', 1)": 3.0}
    assert scalar_metrics({"a\nb": 1.0, "\ud800": 2.0}) == {"a\\nb": 1.0, "\\ud800": 2.0}
    assert list(map(len, scalar_metrics({"k" * 10_000: 1.0}))) == [200]


@pytest.mark.parametrize("empty", [spaces.Box(-1, 1, (0,)), spaces.Box(0, 1, (2, 0), np.uint8), spaces.Dict()])
def test_what_holds_no_number_is_left_out(empty):
    (part,) = observation_parts(spaces.Dict(nothing=empty, speed=spaces.Box(-1, 1, (2,))))
    assert part.spec.name == "speed"
    with pytest.raises(UserError, match="The observation space is empty"):
        observation_parts(empty)


def test_a_space_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"The observation space is int: 4\. Box, Discrete, "):
        observation_parts(4)


HINT = "If images are normalized, the space has to say so: Box(0, 1, (2, 2, 1), np.float32)"
IMAGE = np.zeros((2, 2, 1))
IMAGE[1, 0, 0] = 0.5


@pytest.mark.parametrize(
    ("space", "value", "reported"),
    [
        (spaces.Box(0, 255, (2, 2, 1), np.uint8), IMAGE, ["at [1, 0, 0] is 0.5", "(2, 2, 1), uint8)", HINT]),
        (spaces.Box(0, 255, (3,), np.uint8), np.array([0, 300, -1]), ["at [1] is 300", "from 0 to 255"]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0, -1]), ["at [1] is -1"]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([np.nan, 0]), ["at [0] is nan"]),
        (spaces.Box(0, 1, (2,), np.uint8), np.array([0, 2], np.uint8), ["at [1] is 2", "from 0 to 1"]),
        (spaces.Box(3, 9, (2,), np.uint8), np.array([3, 2], np.uint8), ["at [1] is 2"]),
        (spaces.Box(0, 9, (2, 2, 2, 2), np.uint8), np.full((2, 2, 2, 2), 10), ["at [0, 0, 0, 0] is 10"]),
        (spaces.Box(-np.inf, np.inf, (2,), np.float64), np.array([0, 1e300]), ["at [1] is 1e+300", "3.4e+38"]),
        (spaces.Box(-1, 1, (2,)), ["a", "b"], ["['a', 'b']", "not numbers"]),
        (spaces.Box(-1, 1, (2,)), np.ones(2, complex), ["not numbers"]),
        (spaces.Box(-1, 1, (2,)), None, ["is None"]),
        (spaces.MultiBinary(2), np.array([0, 7], np.int8), ["at [1] is 7"]),
        (spaces.MultiBinary(2), np.array([0, -1], np.int8), ["at [1] is -1"]),
        (spaces.MultiBinary(2), np.array([0.5, 0]), ["at [0] is 0.5"]),
        (spaces.Discrete(5), -1, ["is -1", "Discrete(5)", "from 0 to 4"]),
        (spaces.Discrete(5, start=1), 0, ["is 0", "from 1 to 5"]),
        (spaces.Discrete(5), 2.7, ["is 2.7"]),
        (spaces.MultiDiscrete([3, 4]), np.array([3, 0]), ["at [0] is 3", "from 0 to 2"]),
        (spaces.MultiDiscrete([3, 4]), np.array([0, -2]), ["at [1] is -2"]),
        (spaces.MultiDiscrete([3, 4]), np.array([0]), ["MultiDiscrete([3 4])"]),
    ],
    ids=str,
)
def test_what_lies_outside_its_space_is_refused_with_its_place_and_value(space, value, reported):
    (part,) = observation_parts(space)
    with pytest.raises(WrongValue) as raised:
        part.write(value, np.zeros(part.spec.shape, part.spec.dtype))
    assert str(raised.value).startswith("observation 'observation' ")
    assert [each for each in reported if each not in str(raised.value)] == []


@pytest.mark.parametrize(
    ("space", "value", "row"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.array([255.0, 0.0]), [255, 0]),
        (spaces.Box(0, 255, (2,), np.uint8), [7, 9], [7, 9]),
        (spaces.Box(-1, 1, (2,)), np.array([-3, 9]), [-3, 9]),  # float bounds are not held against a game
        (spaces.Discrete(3), np.array([1]), [0, 1, 0]),
        (spaces.Discrete(3), np.bool_(True), [0, 1, 0]),
        (spaces.MultiDiscrete([[2], [2]]), np.array([[1], [0]], np.uint8), [0, 1, 1, 0]),
    ],
    ids=str,
)
def test_whole_numbers_of_any_type_are_taken(space, value, row):
    (part,) = observation_parts(space)
    written = np.full(part.spec.shape, 99, part.spec.dtype)
    part.write(value, written)
    assert written.tolist() == row


def test_bytes_of_several_highs_become_numbers_that_are_normalized_each():
    space = spaces.Box(np.zeros(2, np.uint8), np.array([1, 255], np.uint8), dtype=np.uint8)
    assert observation_parts(space)[0].spec == ObservationSpec("observation", (2,), "float32", 1.0)
    assert observation_parts(space, prepare_images=False)[0].spec.dtype == "uint8"  # as in earlier versions


def test_keys_that_make_the_same_name_are_numbered():
    one = spaces.Discrete(2)
    parts = observation_parts(spaces.Dict({"a": spaces.Dict({"b": one}), "a/b": one, "0": spaces.Tuple([one])}))
    assert sorted(part.spec.name for part in parts) == ["0/0", "a/b", "a/b_2"]


@pytest.mark.parametrize(
    "space", [spaces.Discrete(2**40), spaces.MultiDiscrete([2**40, 2]), spaces.MultiBinary([2**15, 2**14])]
)
def test_an_observation_that_takes_too_much_is_refused_before_memory_is_taken(space):
    with pytest.raises(UserError, match="at most 256 MiB are served"):
        observation_parts(spaces.Dict(level=space))


@pytest.mark.parametrize("space", [spaces.Discrete(50_000_000), spaces.MultiDiscrete([2**19, 2**19, 2])])
def test_more_choices_than_a_policy_can_have_are_refused(space):
    with pytest.raises(UserError, match="at most 1,048,576 of each are served"):
        ActionCodec(space)
