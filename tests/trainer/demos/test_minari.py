"""`outstep demos convert`, with Minari itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.gym.observations import observation_parts
from envs.gym.restored import restored, stacked
from envs.spec import BehaviorSpec, Demonstration, ObservationSpec
from envs.unity.demo.reader import read_demo
from envs.unity.demo.writer import DemoWriter
from trainer.demos.__main__ import main

BOARD = ObservationSpec("board", (5, 4, 3), "uint8", 1 / 255)
STATE = ObservationSpec("state", (2,), "float32")
MIXED = BehaviorSpec("Toy", (BOARD, STATE), 2, (3, 2), masked=True)


@pytest.fixture
def minari(tmp_path, monkeypatch):
    pytest.importorskip("h5py")
    library = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    return library


def episode(spec: BehaviorSpec, steps: int, terminated: bool, seed: int) -> Demonstration:
    rng, kept = np.random.default_rng(seed), 0 if terminated else 1

    def draw(o: ObservationSpec, count: int) -> Any:
        if o.dtype == "uint8":
            return rng.integers(0, 256, (count, *o.shape)).astype(np.uint8)
        return rng.standard_normal((count, *o.shape), np.float32)

    mask = rng.random((steps, spec.mask_size)) < 0.5
    mask[:, [0, 3]] = True
    return Demonstration(
        tuple(draw(o, steps) for o in spec.observations),
        mask,
        rng.uniform(-1, 1, (steps, spec.continuous_size)).astype(np.float32),
        np.stack([rng.integers(0, n, steps) for n in spec.branches], 1).astype(np.int32),
        rng.standard_normal(steps).astype(np.float32),
        terminated,
        tuple(draw(o, kept) for o in spec.observations),
        np.ones((kept, spec.mask_size), bool),
    )


def write(file: Path, spec: BehaviorSpec) -> list[Demonstration]:
    episodes = [episode(spec, 5, True, 1), episode(spec, 1, False, 2), episode(spec, 3, False, 3)]
    with DemoWriter(file, spec, file.stem) as writer:
        for each in episodes:
            writer.add(each)
    return episodes


def arrays(episode: Demonstration) -> list[Any]:
    return [*episode.observations, *episode.final_observations, *episode[1:5], episode.terminated, episode.final_mask]


@pytest.mark.extras
@pytest.mark.parametrize("names", [("board", "state"), ("state", "a/board")])
def test_demonstrations_come_back_as_they_were(minari, tmp_path, names, capsys):
    spec = BehaviorSpec(
        "Toy",
        (ObservationSpec(names[0], (5, 4, 3), "uint8", 1 / 255), ObservationSpec(names[1], (2,), "float32")),
        2,
        (3, 2),
        masked=True,
    )
    written = write(tmp_path / "toy.demo", spec)
    assert main(["convert", f"from={tmp_path / 'toy.demo'}", "to=minari:toys/mixed-v0"]) == 0
    assert main(["convert", "from=minari:toys/mixed-v0", f"to={tmp_path / 'again.demo'}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "minari:toys/mixed-v0: 3 episodes, 9 steps",
        f"{tmp_path / 'again.demo'}: 3 episodes, 9 steps",
    ]
    again = read_demo(tmp_path / "again.demo")
    assert again.spec.difference(read_demo(tmp_path / "toy.demo").spec) is None or names[1] != "state"
    for before, after in zip(written, again.episodes):
        for one, other in zip(arrays(before), arrays(after)):
            np.testing.assert_array_equal(one, other)


@pytest.mark.extras
def test_a_data_set_has_the_ends_that_the_file_has(minari, tmp_path):
    written = write(tmp_path / "toy.demo", MIXED)
    assert main(["convert", f"from={tmp_path / 'toy.demo'}", "to=minari:toys/mixed-v0"]) == 0
    data = minari.load_dataset("toys/mixed-v0")
    assert [(each.terminations.tolist(), each.truncations.tolist()) for each in data] == [
        ([False] * 4 + [True], [False] * 5),
        ([False], [True]),
        ([False] * 3, [False, False, True]),
    ]
    first = data[0]
    np.testing.assert_array_equal(first.rewards, written[0].rewards)
    np.testing.assert_array_equal(
        first.observations["board"], [*written[0].observations[0], first.observations["board"][4]]
    )
    np.testing.assert_array_equal(first.infos["action_mask"][:5], written[0].mask)
    assert data.action_space["discrete"] == spaces.MultiDiscrete([3, 2])


def collect(minari: Any, env: gymnasium.Env, name: str, episodes: int) -> list[Any]:
    """Makes a data set of random play, as Minari's own collector would, which needs jax."""
    buffers = []
    env.action_space.seed(1)
    for number in range(episodes):
        observations, actions, rewards, ends = [env.reset(seed=number)[0]], [], [], []
        while not ends or not any(ends[-1]):
            actions.append(env.action_space.sample())
            observation, reward, *end, _ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
            ends.append(end)
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=number,
                observations=stacked(env.observation_space, observations),
                actions=stacked(env.action_space, actions),
                rewards=rewards,
                terminations=[end[0] for end in ends],
                truncations=[end[1] for end in ends],
            )
        )
    minari.create_dataset_from_buffers(name, buffers, env=env)
    return buffers


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_a_data_set_of_an_environment_comes_back_with_its_spaces(minari, tmp_path, env_id, capsys):
    env = gymnasium.make(env_id)
    collected = collect(minari, env, "some/random-v0", 3)
    file = tmp_path / "demos" / "random.demo"
    assert main(["convert", "from=minari:some/random-v0", f"to={file}"]) == 0, capsys.readouterr().err
    assert read_demo(file).behavior == env_id
    assert main(["convert", f"from={file}", "to=minari:some/random-v1", f"env.id={env_id}"]) == 0, (
        capsys.readouterr().err
    )
    again = minari.load_dataset("some/random-v1")
    assert (again.observation_space, again.action_space) == (env.observation_space, env.action_space)
    assert again.spec.env_spec.id == env_id
    for before, after in zip(collected, again):
        known = len(before.rewards) + (not before.terminations[-1])  # the last observation after an end is not kept
        for one, other in ((before.observations, after.observations), (before.actions, after.actions)):
            parts = zip(one, other) if isinstance(one, tuple) else [(one, other)]
            for x, y in parts:
                np.testing.assert_allclose(np.asarray(x)[:known], y[:known], atol=1e-6)
        np.testing.assert_allclose(before.rewards, after.rewards, rtol=1e-6)
        assert (after.terminations.tolist(), after.truncations.tolist()) == (before.terminations, before.truncations)


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_is_one_message_and_leaves_nothing(minari, tmp_path, capsys):
    buffer = minari.data_collector.EpisodeBuffer

    def make(name: str, observed: Any, acted: Any, **fields: Any) -> None:
        given = {"rewards": [0.0] * 2, "terminations": [False] * 2, "truncations": [False] * 2, **fields}
        minari.create_dataset_from_buffers(
            name, [buffer(id=0, **given)], observation_space=observed, action_space=acted
        )

    box, two = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    good = {"observations": np.zeros((3, 2), np.float32), "actions": np.zeros(2, np.int64)}
    make("text-v0", spaces.Text(5), two, observations=["a"] * 3, actions=good["actions"])
    make("endless-v0", box, spaces.Box(-np.inf, np.inf, (1,)), **{**good, "actions": np.zeros((2, 1), np.float32)})
    make("nan-v0", box, two, **{**good, "observations": np.full((3, 2), np.nan, np.float32)})
    make("choice-v0", box, two, **{**good, "actions": np.array([0, 2])})
    make("goes_on-v0", box, two, **good, terminations=[True, False])
    make("empty-v0", box, two, **good)
    (tmp_path / "sets/empty-v0/data/main_data.hdf5").write_bytes(b"nonsense")
    make("nameless-v0", box, two, **good)
    about = tmp_path / "sets/nameless-v0/data/metadata.json"
    about.write_text(about.read_text().replace('"observation_space"', '"was"'))
    (tmp_path / "there.demo").write_bytes(b"")
    write(tmp_path / "toy.demo", MIXED)
    make("toys/taken-v0", box, two, **good)
    to = f"to={tmp_path / 'out' / 'x.demo'}"
    refused = {
        ("from=minari:text-v0", to): "minari:text-v0: The observation space is Text",
        ("from=minari:endless-v0", to): "a continuous action needs finite bounds on both sides",
        ("from=minari:nan-v0", to): "minari:nan-v0: episode 0, step 0: observation 'observation' at [0] is nan",
        ("from=minari:choice-v0", to): "minari:choice-v0: episode 0, step 1: the action space takes 0..1, not 2",
        ("from=minari:goes_on-v0", to): "episode 0 has 2 steps, but its terminations and truncations say that it ended",
        ("from=minari:empty-v0", to): "minari:empty-v0: it cannot be read or written: ",
        ("from=minari:nameless-v0", to): "minari:nameless-v0: it does not say which spaces it has",
        ("from=minari:none-v0", to): "minari:none-v0: it is not on this machine, in ",
        ("from=minari:none", to): "from=minari:none: a data set is named as minari:cartpole/bot-v0",
        ("from=minari:../x-v0", to): "a data set is named as",
        ("from=minari:text-v0", f"to={tmp_path / 'there.demo'}"): "exists: name another file, or replace it with",
        ("from=minari:text-v0", f"to={tmp_path / 'x.txt'}"): "must end in .demo",
        (f"from={tmp_path / 'toy.demo'}", "to=minari:toys/taken-v0"): "exists, in ",
        (
            f"from={tmp_path / 'toy.demo'}",
            "to=minari:new-v0",
            "env.id=CartPole-v1",
        ): "does not fit behavior 'CartPole-v1'",
        (f"from={tmp_path / 'toy.demo'}", "to=minari:new-v0", "env.id=Cart-v1"): "Unknown environment id 'Cart-v1'",
        (f"from={tmp_path / 'toy.demo'}", to): "one of them must be a data set, minari:<id>",
        ("from=minari:text-v0",): "to is missing: give from=minari:<id> to=demos/name.demo, or",
        ("minari:text-v0", to): "minari:text-v0: give from=minari:<id> to=demos/name.demo, or",
    }
    for words, message in refused.items():
        assert main(["convert", *words]) == 2, words
        err = capsys.readouterr().err
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))
    assert not (tmp_path / "sets/new-v0").exists()


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_actions_beyond_their_bounds_are_counted(minari, tmp_path, capsys):
    fields = {"observations": np.zeros((3, 2), np.float32), "actions": np.array([[0.5], [1.5]], np.float32)}
    fields |= {"rewards": [0.0] * 2, "terminations": [False, True], "truncations": [False] * 2}
    episode = minari.data_collector.EpisodeBuffer(id=0, **fields)
    box = spaces.Box(-1, 1, (2,))
    minari.create_dataset_from_buffers(
        "loud-v0", [episode], observation_space=box, action_space=spaces.Box(-1, 1, (1,))
    )
    assert main(["convert", "from=minari:loud-v0", f"to={tmp_path / 'x.demo'}"]) == 0
    assert "; in 1 the action was outside of its bounds, to which it was brought" in capsys.readouterr().out
    assert read_demo(tmp_path / "x.demo").episodes[0].continuous.tolist() == [[0.5], [1.0]]


def test_without_the_library_it_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "minari", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["convert", "from=minari:x-v0", f"to={tmp_path / 'x.demo'}"]) == 2
    assert "needs Minari, for Python 3.11 and later: pip install 'outstep[minari]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([[3, 2], [4, 5]], start=[[0, 1], [2, 0]]),
        spaces.MultiBinary((2, 3)),
        spaces.Box(-3, 3, (), np.float64),
        spaces.Box(0, 255, (4, 6, 5, 3), np.uint8),
        spaces.Box(0, 255, (4, 3, 6, 5), np.uint8),
        spaces.Dict(
            {"a": spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (0,))]), "b": spaces.Box(-9, 9, (2,), np.int32)}
        ),
    ],
)
def test_observations_are_restored_from_their_rows(space):
    space.seed(3)
    drawn = [space.sample() for _ in range(4)]
    parts = observation_parts(space)
    rows = [np.zeros((4, *part.spec.shape), part.spec.dtype) for part in parts]
    for i, observation in enumerate(drawn):
        for part, array in zip(parts, rows):
            value = observation
            for key in part.path:
                value = value[key]
            part.write(value, array[i])
    wanted, seen = stacked(space, drawn), restored(space, rows)

    def compare(one: Any, other: Any) -> None:
        if isinstance(one, dict):
            for key in one:
                compare(one[key], other[key])
        elif isinstance(one, tuple):
            for x, y in zip(one, other):
                compare(x, y)
        else:
            np.testing.assert_allclose(one, other, atol=1e-6)
            assert one.shape == other.shape

    compare(wanted, seen)
