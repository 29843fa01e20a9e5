"""What is written is read back, by us and by ML-Agents; a recording that ends badly loses no whole episode."""

import numpy as np
import pytest

from envs.spec import BehaviorSpec, Demonstration, ObservationSpec, UserError
from envs.unity.demo.reader import read_demo
from envs.unity.demo.writer import DemoWriter
from envs.unity.protocol.messages import message
from tests.envs.unity.demo.demo_files import file_of, parameters

import mlagents_envs  # isort: skip

SPEC = BehaviorSpec(
    "Board",
    (
        ObservationSpec("speed", (5,), "float32"),
        ObservationSpec("camera", (6, 7, 3), "uint8", 1 / 255),
        ObservationSpec("heat", (6, 7, 4), "uint8", 1 / 255),
        ObservationSpec("planes", (3, 10, 8), "uint8", 1.0),
    ),
    continuous_size=2,
    branches=(3, 4),
    masked=True,
)


def episode(steps, terminated=True, seed=0):
    rng = np.random.default_rng(seed)
    finals = 0 if terminated else 1

    def observations(count):
        return (
            rng.standard_normal((count, 5)).astype(np.float32),
            rng.integers(0, 256, (count, 6, 7, 3), dtype=np.uint8),
            rng.integers(0, 256, (count, 6, 7, 4), dtype=np.uint8),
            rng.integers(0, 2, (count, 3, 10, 8), dtype=np.uint8),
        )

    def mask(count):
        allowed = rng.random((count, 7)) < 0.5
        allowed[:, [0, 3]] = True
        return allowed

    return Demonstration(
        observations(steps),
        mask(steps),
        rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        rng.integers(0, [3, 4], (steps, 2), dtype=np.int32),
        rng.standard_normal(steps).astype(np.float32),
        terminated,
        observations(finals),
        mask(finals),
    )


EPISODES = [episode(5, True, 1), episode(3, False, 2), episode(1, True, 3)]


def record(path, episodes=EPISODES, name="board"):
    with DemoWriter(path, SPEC, name) as writer:
        for each in episodes:
            writer.add(each)
    return path


def assert_same(read, written):
    """Where planes of bytes have become floats, their channels last."""
    assert len(read) == len(written)
    for mine, theirs in zip(read, written):
        for field in ("mask", "continuous", "discrete", "rewards", "terminated", "final_mask"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))
        for field in ("observations", "final_observations"):
            expected = list(getattr(theirs, field))
            expected[3] = expected[3].transpose(0, 2, 3, 1).astype(np.float32)
            for seen, wanted in zip(getattr(mine, field), expected):
                np.testing.assert_array_equal(seen, wanted)
                assert seen.dtype == wanted.dtype


def meta_of(path):
    data = path.read_bytes()
    return message("demonstration_meta", "DemonstrationMetaProto").FromString(data[1 : 1 + data[0]])


def test_what_is_written_is_read_back(tmp_path):
    demo = read_demo(record(tmp_path / "new" / "x.demo"))
    assert (demo.name, demo.behavior, demo.api_version) == ("board", "Board", 1)
    planes = ObservationSpec("planes", (10, 8, 3), "float32")
    assert demo.spec == BehaviorSpec("Board", (*SPEC.observations[:3], planes), 2, (3, 4), masked=True)
    assert_same(demo.episodes, EPISODES)


def test_the_file_is_laid_out_as_mlagents_does(tmp_path):
    path = record(tmp_path / "x.demo")
    rewards = sum(each.rewards.sum() for each in EPISODES)
    meta = meta_of(path)
    assert (meta.number_steps, meta.number_episodes) == (12, 4)
    assert meta.mean_reward == pytest.approx(rewards / 4)
    behavior = parameters(2, (3, 4), "Board?team=0")
    assert path.read_bytes().startswith(
        file_of([], behavior, **{field.name: value for field, value in meta.ListFields()})
    )
    assert [file.name for file in tmp_path.iterdir()] == ["x.demo"]


def test_a_name_is_cut_to_the_room_in_the_header(tmp_path):
    path = record(tmp_path / "x.demo", name="ä" * 99)
    assert meta_of(path).demonstration_name == "ä" * 9
    assert_same(read_demo(path).episodes, EPISODES)


def test_an_exception_loses_no_episode_that_was_added(tmp_path):
    path = tmp_path / "x.demo"
    broken = EPISODES[2]._replace(discrete=EPISODES[2].discrete[:0])
    with pytest.raises(IndexError):
        record(path, [*EPISODES[:2], broken])
    assert_same(read_demo(path).episodes, EPISODES[:2])


def test_nothing_stands_under_the_name_before_the_recording_is_closed(tmp_path):
    path = tmp_path / "x.demo"
    path.write_bytes(b"before")
    with DemoWriter(path, SPEC, "board") as writer:
        writer.add(EPISODES[0])
        assert path.read_bytes() == b"before"
        (aside,) = set(tmp_path.iterdir()) - {path}
        assert aside.suffix != ".demo"
        killed = aside.read_bytes()
    assert_same(read_demo(path).episodes, EPISODES[:1])
    path.write_bytes(killed)
    assert_same(read_demo(path).episodes, EPISODES[:1])


def test_two_recordings_never_write_into_one_file(tmp_path):
    path, aside = tmp_path / "x.demo", tmp_path / "x.demo.part"
    with DemoWriter(path, SPEC, "board") as first:
        first.add(EPISODES[0])
        with pytest.raises(
            UserError, match=r"another recording to it is going on, or was killed, and has left .*\.part"
        ):
            DemoWriter(path, SPEC, "board")
        first.add(EPISODES[1])
        killed = aside.read_bytes()
    assert_same(read_demo(path).episodes, EPISODES[:2])
    aside.write_bytes(killed)
    with pytest.raises(UserError, match="another recording"):
        record(path)
    assert aside.read_bytes() == killed
    aside.rename(tmp_path / "kept.demo")
    assert_same(read_demo(tmp_path / "kept.demo").episodes, EPISODES[:2])
    assert_same(read_demo(record(path)).episodes, EPISODES)


def test_without_an_episode_no_file_is_left_and_none_is_replaced(tmp_path):
    path = tmp_path / "x.demo"
    record(path, [episode(0)])
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"before")
    record(path, [])
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("field", ["observations", "continuous", "rewards"])
def test_an_episode_with_numbers_that_are_not_finite_is_not_written(tmp_path, field):
    bad = episode(3)
    values = getattr(bad, field)
    (values[0] if field == "observations" else values)[1] = np.nan
    path = tmp_path / "x.demo"
    with DemoWriter(path, SPEC, "board") as writer:
        writer.add(EPISODES[0])
        with pytest.raises(UserError, match=r"x\.demo: the episode after 1 others holds numbers that are not finite"):
            writer.add(bad)
        writer.add(EPISODES[1])
    assert_same(read_demo(path).episodes, EPISODES[:2])


def test_where_nothing_can_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.demo").mkdir()
    for name, words in (
        ("x.npz", "ends in .demo"),
        ("folder.demo", "ends in .demo"),
        ("file/x.demo", "cannot be written"),
    ):
        with pytest.raises(UserError, match=words):
            DemoWriter(tmp_path / name, SPEC, "board")


def test_observations_that_files_have_no_form_for_are_refused(tmp_path):
    spec = BehaviorSpec("Film", (ObservationSpec("film", (2, 3, 4, 5), "float32"),), continuous_size=1)
    with pytest.raises(UserError, match=r"observation 'film' has shape \[2, 3, 4, 5\]"):
        DemoWriter(tmp_path / "x.demo", spec, "film")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def loader(monkeypatch):
    """ML-Agents' own; the trainers are not always there."""
    monkeypatch.setattr(np, "float", float, raising=False)  # they ask for it, and numpy has it no more
    return pytest.importorskip("mlagents.trainers.demo_loader")


def test_mlagents_reads_what_is_written(tmp_path, loader):
    if mlagents_envs.__version__.startswith("0."):
        pytest.skip("this version reads images with their channels last only")
    path = record(tmp_path / "x.demo")
    spec, buffer = loader.demo_to_buffer(str(path), 1)
    assert spec.action_spec.discrete_branches == (3, 4)
    columns = {getattr(key, "value", key): np.array(values) for key, values in buffer.items()}
    seen = [values for key, values in columns.items() if isinstance(key, tuple)]
    first = 0
    for each in EPISODES:
        rows = slice(first, first + len(each.rewards))
        first = rows.stop + 1  # their loader takes the record of the end for a step, too
        np.testing.assert_array_equal(columns["environment_rewards"][rows], each.rewards)
        np.testing.assert_array_equal(columns["done"][rows], [False] * (len(each.rewards) - 1) + [True])
        np.testing.assert_array_equal(columns["continuous_action"][rows], each.continuous)
        np.testing.assert_array_equal(columns["discrete_action"][rows], each.discrete)
        np.testing.assert_array_equal(seen[0][rows], each.observations[0])
        for image in (1, 2):
            expected = each.observations[image].transpose(0, 3, 1, 2) / 255
            np.testing.assert_allclose(seen[image][rows], expected, atol=1e-6)
        np.testing.assert_array_equal(seen[3][rows], each.observations[3])


def test_what_mlagents_writes_is_read(tmp_path, loader):
    _, pairs, total = loader.load_demonstration(str(record(tmp_path / "x.demo")))
    meta = message("demonstration_meta", "DemonstrationMetaProto")(api_version=1, number_steps=total)
    path = tmp_path / "theirs.demo"
    loader.write_demo(path, meta, parameters(2, (3, 4), "Board"), pairs)
    assert_same(read_demo(path).episodes, EPISODES)


def test_sets_and_goal_signals_are_written_as_unity_does(tmp_path):
    things = ObservationSpec("things", (3, 2), "float32", entities=True)
    spec = BehaviorSpec("Gather", (things, ObservationSpec("goal", (2,), "float32", goal=True)), branches=(2,))
    seen = np.float32([[[1, 0.01], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]]), np.float32([[0, 1], [1, 0]])
    none = tuple(each[:0] for each in seen), np.zeros((0, 2), bool)
    played = Demonstration(
        seen, np.ones((2, 2), bool), np.zeros((2, 0), np.float32), np.int32([[0], [1]]), np.float32([0, 1]), True, *none
    )
    with DemoWriter(tmp_path / "gather.demo", spec, "gather") as writer:
        writer.add(played)
    read = read_demo(tmp_path / "gather.demo")
    assert read.spec.observations == spec.observations
    np.testing.assert_array_equal(read.episodes[0].observations[0], seen[0])
