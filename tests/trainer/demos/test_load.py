"""Files of demonstrations are found, and fitted to the behavior that learns from them."""

from pathlib import Path

import numpy as np
import pytest

import trainer.demos.load
from envs.spec import BehaviorSpec, Demonstration, ObservationSpec, UserError
from envs.unity.demo.reader import Demo
from trainer.demos.load import changed_demos, find_demos, load_demonstrations, read_demos

KEY = "reward.gail.demos"


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


def test_a_file_a_folder_and_a_pattern_are_found_in_order(tmp_path):
    b, a, _, _ = files(tmp_path, "b.demo", "a.demo", "notes.txt", "deeper/c.demo")
    assert find_demos(str(b), KEY) == [b]
    assert find_demos(str(tmp_path), KEY) == [a, b]
    assert find_demos(str(tmp_path / "*.demo"), KEY) == [a, b]
    assert find_demos(str(tmp_path / "[b].demo"), KEY) == [b]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    odd, _ = files(tmp_path, "[b].demo", "b.demo")
    assert find_demos(str(odd), KEY) == [odd]


def test_home_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (a,) = files(tmp_path, "a.demo")
    assert find_demos("~/*.demo", KEY) == find_demos("~/a.demo", KEY) == find_demos("~", KEY) == [a]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.demo", " does not exist; record it: outstep record env=... player=... to={path}"),
        ("empty", ": the folder holds no .demo file; record it: "),
        ("*.dem", ": no file fits the pattern"),
        ("notes.txt", ": {path} is not a .demo file"),
        ("n*.txt", ": {at}notes.txt is not a .demo file"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, path, message):
    files(tmp_path, "notes.txt")
    (tmp_path / "empty").mkdir()
    given = str(tmp_path / path)
    with pytest.raises(UserError) as caught:
        find_demos(given, KEY)
    at = str(tmp_path / "x")[:-1]
    assert str(caught.value).startswith(f"{KEY}={given}" + message.format(path=given, at=at))


def toy(spec: BehaviorSpec, steps: int = 3, terminated: bool = False, seed: int = 0) -> Demonstration:
    rng = np.random.default_rng(seed)

    def arrays(count: int):
        whole = [rng.integers(0, 9, (count, *each.shape)).astype(each.dtype) for each in spec.observations]
        return tuple(whole)

    kept = 0 if terminated else 1
    return Demonstration(
        arrays(steps),
        rng.random((steps, spec.mask_size)) < 0.5,
        rng.random((steps, spec.continuous_size), np.float32),
        rng.integers(0, 2, (steps, len(spec.branches)), np.int32),
        rng.random(steps, np.float32),
        terminated,
        arrays(kept),
        np.ones((kept, spec.mask_size), bool),
    )


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Keeps demonstrations as if they had been written to files; returns the pattern that finds them."""
    content = {}
    monkeypatch.setattr(trainer.demos.load, "read_demo", lambda path: content[path.name])

    def store(*demos: tuple[BehaviorSpec, list[Demonstration]]) -> str:
        for i, (spec, episodes) in enumerate(demos):
            files(tmp_path, f"{i}.demo")
            content[f"{i}.demo"] = Demo("name", spec.name, spec, 1, episodes, 0, "")
        return str(tmp_path / "*.demo")

    return store


def spec(*observations: ObservationSpec, name: str = "Toy", continuous: int = 0, branches=(2, 3), masked=False):
    return BehaviorSpec(name, observations, continuous, branches, masked)


def vector(name: str = "x", size: int = 2, dtype: str = "float32", scale: float = 1.0) -> ObservationSpec:
    return ObservationSpec(name, (size,), dtype, scale)


def test_what_fits_is_left_as_it_is(stored):
    mine = spec(vector(), ObservationSpec("image", (4, 5, 3), "uint8", 1 / 255), continuous=1, masked=True)
    episodes = [toy(mine, 3), toy(mine, 2, terminated=True, seed=1)]
    loaded = load_demonstrations(stored((mine, episodes[:1]), (mine, episodes[1:])), KEY, mine)
    assert [len(each.rewards) for each in loaded] == [3, 2]
    for given, got in zip(episodes, loaded):
        for field, right in zip(got, given):
            np.testing.assert_equal(field, right)


def test_names_may_differ(stored):
    theirs, mine = spec(vector("SensorA"), name="Mine?"), spec(vector("x"))
    assert len(load_demonstrations(stored((theirs, [toy(theirs)])), KEY, mine)) == 1


@pytest.mark.parametrize(("seen", "wanted"), [((4, 5, 3), (3, 4, 5)), ((3, 4, 5), (4, 5, 3))])
def test_images_are_brought_into_the_order_of_channels_that_is_asked_for(stored, seen, wanted):
    theirs = spec(ObservationSpec("image", seen, "uint8", 1 / 255))
    mine = spec(ObservationSpec("image", wanted, "uint8", 1 / 255))
    episode = toy(theirs)
    (got,) = load_demonstrations(stored((theirs, [episode])), KEY, mine)
    channel_axis, place = (3, 1) if seen[2] == 3 else (1, 3)
    np.testing.assert_array_equal(got.observations[0], np.moveaxis(episode.observations[0], channel_axis, place))
    assert got.final_observations[0].shape == (1, *wanted)


def test_numbers_come_in_the_specs_type_and_scale(stored):
    floats, bytes_ = vector(scale=1.0), vector(dtype="uint8", scale=1 / 255)
    values = np.array([[0, 255], [3, 7], [128, 1]])
    theirs = toy(spec(floats), terminated=True)._replace(observations=((values / 255).astype(np.float32),))
    (got,) = load_demonstrations(stored((spec(floats), [theirs])), KEY, spec(bytes_))
    assert got.observations[0].dtype == np.uint8
    assert got.observations[0].tolist() == values.tolist()
    theirs = toy(spec(bytes_))._replace(observations=(values.astype(np.uint8),))
    (got,) = load_demonstrations(stored((spec(bytes_), [theirs])), KEY, spec(floats))
    assert got.observations[0].dtype == np.float32
    np.testing.assert_allclose(got.observations[0], values / 255)


@pytest.mark.parametrize(
    ("value", "scale", "of"), [(0.5, 1.0, ""), (-1.0, 1.0, ""), (300, 1.0, ""), (1.01, 0.1, " times 0.1")]
)
def test_a_number_that_the_spec_cannot_hold_is_named(stored, value, scale, of):
    theirs, mine = spec(vector("sight")), spec(vector("x", dtype="uint8", scale=scale))
    episode = toy(theirs)
    episode.observations[0][1, 1] = value
    with pytest.raises(UserError) as caught:
        load_demonstrations(stored((theirs, [episode])), KEY, mine)
    assert f"its observation 'sight' holds {value:.6g}, which is not one of the whole numbers" in str(caught.value)
    assert f"from 0 to 255{of} that 'x' consists of" in str(caught.value)


def test_masks_are_made_and_dropped(stored):
    with_mask, without = spec(vector(), masked=True), spec(vector())
    (got,) = load_demonstrations(stored((without, [toy(without)])), KEY, with_mask)
    assert got.mask.shape == (3, 5)
    assert got.mask.all()
    assert got.final_mask.shape == (1, 5)
    (got,) = load_demonstrations(stored((with_mask, [toy(with_mask)])), KEY, without)
    assert got.mask.shape == (3, 0)
    assert got.final_mask.shape == (1, 0)


BOARD = ObservationSpec("board", (3, 10, 8), "uint8")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            spec(ObservationSpec("board", (3, 9, 8), "float32"), vector()),
            "its observation 'board' is float32[3, 9, 8], not uint8[3, 10, 8]",
        ),
        (spec(BOARD, vector(size=4)), "its observation 'x' is float32[4], not float32[2]"),
        (spec(BOARD), "it has 1 observations, not 2 ('board' uint8[3, 10, 8], 'x' float32[2])"),
        (spec(BOARD, vector(), continuous=2), "it has 2 continuous actions, not 0"),
        (spec(BOARD, vector(), branches=(3,)), "its discrete branches are [3], not [2, 3]"),
    ],
)
def test_what_does_not_fit_is_told_with_file_and_sizes(stored, theirs, message):
    pattern = stored((spec(BOARD, vector()), []), (theirs, [toy(theirs)]))
    with pytest.raises(UserError) as caught:
        load_demonstrations(pattern, KEY, spec(BOARD, vector(), name="BubbleShooter-v0"))
    file = Path(pattern).with_name("1.demo")
    assert str(caught.value) == f"{file} does not fit behavior 'BubbleShooter-v0': {message}"


def test_files_without_a_step_are_refused_together_and_left_out_beside_others(stored):
    mine = spec(vector())
    pattern = stored((mine, []))
    for read in (lambda: read_demos(pattern, KEY), lambda: load_demonstrations(pattern, KEY, mine)):
        with pytest.raises(UserError, match=r"reward.gail.demos=.*0.demo holds no step that could be learned from"):
            read()
    pattern = stored((mine, []), (mine, []))
    with pytest.raises(UserError, match="the 2 files hold no step"):
        load_demonstrations(pattern, KEY, mine)
    assert len(load_demonstrations(stored((mine, []), (mine, [toy(mine)])), KEY, mine)) == 1


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ([["a", "1"], ["b", "2"]], None),
        ([["moved/a", "1"], ["renamed", "2"]], None),
        ([["a", "1"], ["b", "3"]], "b"),
        ([["a", "1"], ["b", "2"], ["c", "3"]], "c"),
        ([["a", "1"]], "b"),
        ([["a", "2"], ["b", "1"]], "a, b"),
        ([["moved/a", "4"], ["moved/b", "3"]], "moved/a, moved/b"),
    ],
)
def test_files_are_the_same_while_their_bytes_are(now, named):
    reported = changed_demos({KEY: [["a", "1"], ["b", "2"]]}, {KEY: now})
    assert reported == (named and f"The run's demonstrations have changed ({named}): it goes on with the current ones, "
                    "but not exactly as it would have")  # fmt: skip


def test_what_was_learned_from_before_files_were_noted_is_not_judged():
    assert changed_demos({}, {KEY: [["a", "1"]]}) is None
