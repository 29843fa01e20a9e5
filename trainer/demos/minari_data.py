"""Demonstrations as data sets of Minari, and data sets as demonstrations.

Of an episode that terminated `.demo` files do not hold the last observation, from which nothing is learned; the one
before stands for it in a data set. Numbers are 32-bit floats in files. All else is kept: masks as `action_mask` in
`infos`, and images as they are, not as JPEG.

Shapes: T steps of an episode; C continuous actions, B discrete branches, A mask entries.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from envs.gym.adapter import Env, GymEnv, behavior_spec
from envs.gym.observations import ObservationPart, Space, observation_parts
from envs.gym.restored import restored, stacked
from envs.gym.spaces import ActionCodec, follow, write_mask
from envs.gym.values import WrongValue
from envs.spec import Array, BehaviorSpec, Demonstration, UserError
from envs.unity.demo.writer import DemoWriter
from trainer.config.errors import one_line
from trainer.demos.load import load_demonstrations, read_demos

PREFIX = "minari:"
_ID = re.compile(r"([-_\w]+/)*[-_\w]+-v\d+", re.ASCII)
_MASK = "action_mask"
_MISSING = "needs Minari, for Python 3.11 and later: pip install 'outstep[minari]'"


class Converted(NamedTuple):
    """What was converted."""

    episodes: int
    steps: int
    clipped: int
    """Steps whose actions lay outside of their space's bounds, to which they were brought."""


def import_dataset(name: str, to: Path) -> Converted:
    """Writes a data set of this machine to a `.demo` file, which is there once all is converted.

    Raises UserError if there is no such data set, it is damaged, or it holds what demonstrations cannot.
    """
    with _named(name):
        data = _load(name)
        parts, codec = observation_parts(data.observation_space), ActionCodec(data.action_space)
        to.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".converting-", dir=to.parent, ignore_cleanup_errors=True) as folder:
            whole = Path(folder) / to.name
            converted = _write(data, _spec(data, name, parts, codec), parts, codec, whole)
            whole.replace(to)
    return converted


def export_demos(path: str, name: str, env_id: str | None) -> Converted:
    """Makes a data set on this machine of the `.demo` files of `path` (see `find_demos`).

    Args:
        path: where the files are.
        name: of the data set.
        env_id: the environment whose spaces it gets, and that it names; None = spaces that the files themselves have.

    Raises UserError if there is one of this name, or the files do not fit the environment.
    """
    minari = _library()
    place = minari.storage.get_dataset_path(name)
    if place.exists():
        raise UserError(f"to={PREFIX}{name} exists, in {place}: name another, such as its next version")
    spec = read_demos(path, "from")[0][1].spec
    with ExitStack() as stack:
        env = None if env_id is None else _made(GymEnv(env_id), stack)
        if env is not None:
            spec = behavior_spec(env, str(env_id).split(":")[-1], spec.masked)
        observed = _observation_space(spec) if env is None else env.observation_space
        acted = _action_space(spec) if env is None else env.action_space
        codec = ActionCodec(acted)
        episodes = load_demonstrations(path, "from", spec)
        buffers = [_buffer(minari, i, each, observed, acted, codec) for i, each in enumerate(episodes)]
        try:
            with _named(name), _refusals():
                minari.create_dataset_from_buffers(
                    name,
                    buffers,
                    env=env,
                    observation_space=observed,
                    action_space=acted,
                    description=f"Demonstrations of {spec.name}",
                    jpeg_encoding=False,
                )
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return Converted(len(buffers), sum(len(each.rewards) for each in buffers), 0)


def dataset_name(word: str, key: str) -> str | None:
    """Returns the id in `minari:<id>`; None for anything else, and UserError for what is no id."""
    if not word.startswith(PREFIX):
        return None
    name = word[len(PREFIX) :]
    if not _ID.fullmatch(name):
        raise UserError(f"{key}={word}: a data set is named as {PREFIX}cartpole/bot-v0, with a version at its end")
    return name


def _library() -> Any:
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError as error:
        raise UserError(f"this {_MISSING} ({error})") from error
    return minari


def _load(name: str) -> Any:
    """Returns a data set. One without spaces is refused: Minari would run the environment that it names."""
    place = _library().storage.get_dataset_path(name)
    if not (place / "data").is_dir():
        raise UserError(f"it is not on this machine, in {place}: minari download {name}")
    with _refusals():
        about = json.loads((place / "data" / "metadata.json").read_text(encoding="utf-8"))
        if not {"observation_space", "action_space"} <= set(about):
            raise UserError("it does not say which spaces it has: make it again with a current Minari")
        return _library().load_dataset(name)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the name of the data set before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{PREFIX}{name}: {error}") from error


@contextmanager
def _refusals() -> Iterator[None]:
    """Makes what Minari and HDF5 refuse an error that the user can read, and keeps their warnings back."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # of many kinds
        raise UserError(f"it cannot be read or written: {one_line(error)}") from error


def _made(gym: GymEnv, stack: ExitStack) -> Env:
    gym.check()
    try:
        env = gym.make()
    except Exception as error:  # whatever its code does
        raise UserError(f"environment {gym.id!r} cannot be made: {one_line(error)}") from error
    stack.callback(env.close)
    return env


def _spec(data: Any, name: str, parts: Sequence[ObservationPart], codec: ActionCodec) -> BehaviorSpec:
    """Returns what a data set holds; its behavior is the environment that it names, or else it itself."""
    if not data.total_episodes:
        raise UserError("it holds no episode")
    with _refusals():
        masked = bool(codec.branches) and _MASK in (data[0].infos or {})
        env = data.spec.env_spec
    behavior = str(name if env is None else env.id).split("/")[-1]
    return BehaviorSpec(behavior, tuple(part.spec for part in parts), codec.continuous_size, codec.branches, masked)


def _write(data: Any, spec: BehaviorSpec, parts: Sequence[ObservationPart], codec: ActionCodec, to: Path) -> Converted:
    count = steps = clipped = 0
    with DemoWriter(to, spec, to.stem) as writer, _refusals():
        for episode in data.iterate_episodes():
            writer.add(_demonstration(episode, spec, parts, codec))
            clipped += int(_outside(data.action_space, episode.actions, len(episode.rewards)).sum())
            steps, count = steps + len(episode.rewards), count + 1
    return Converted(count, steps, clipped)


def _demonstration(
    episode: Any, spec: BehaviorSpec, parts: Sequence[ObservationPart], codec: ActionCodec
) -> Demonstration:
    steps = len(episode.rewards)
    ended = np.asarray(episode.terminations, bool) | np.asarray(episode.truncations, bool)
    where = f"episode {episode.id}"
    if len(ended) != steps or ended[:-1].any():
        raise UserError(
            f"{where} has {steps} steps, but its terminations and truncations say that it ended after "
            f"{int(ended.argmax()) + 1}: split it"
        )
    rows = tuple(np.zeros((steps + 1, *part.spec.shape), part.spec.dtype) for part in parts)
    mask = np.ones((steps + 1, spec.mask_size), bool)
    continuous = np.zeros((steps, codec.continuous_size), np.float32)
    discrete = np.zeros((steps, len(codec.branches)), np.int32)
    terminated = bool(steps) and bool(episode.terminations[-1])
    at = 0
    try:
        for part, array in zip(parts, rows):
            values = follow(episode.observations, part.path)
            for at in range(steps + 1):
                part.write(values[at], array[at])
        for at in range(steps):
            continuous[at], discrete[at] = codec.encode(_at(episode.actions, at))
        if spec.masked:
            for at in range(steps + (not terminated)):
                write_mask(_at(episode.infos[_MASK], at), spec.branches, mask[at])
    except (WrongValue, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{where}, step {at}: {one_line(error)}") from error
    cut_off = slice(steps, steps + (not terminated))
    return Demonstration(
        tuple(each[:steps] for each in rows),
        mask[:steps],
        continuous,
        discrete,
        np.asarray(episode.rewards, np.float32),
        terminated,
        tuple(each[cut_off] for each in rows),
        mask[cut_off],
    )


def _at(values: Any, step: int) -> Any:
    """Returns what stands at a step in an array, or in each array of dicts and tuples."""
    if isinstance(values, dict):
        return {key: _at(value, step) for key, value in values.items()}
    return tuple(_at(value, step) for value in values) if isinstance(values, tuple) else values[step]


def _outside(space: Space, actions: Any, steps: int) -> Array:
    """(T,) bool: whether continuous actions lie outside of their bounds."""
    if isinstance(space, spaces.Dict):
        parts = [_outside(sub, actions[key], steps) for key, sub in space.spaces.items()]
        return np.asarray(np.logical_or.reduce(parts))
    if isinstance(space, spaces.Tuple):
        parts = [_outside(sub, actions[i], steps) for i, sub in enumerate(space.spaces)]
        return np.asarray(np.logical_or.reduce(parts))
    if not isinstance(space, spaces.Box):
        return np.zeros(steps, bool)
    outside = (actions < space.low) | (actions > space.high)
    return np.asarray(outside.reshape(steps, -1).any(1))


def _buffer(minari: Any, number: int, episode: Demonstration, observed: Space, acted: Space, codec: ActionCodec) -> Any:
    """Returns an episode as Minari takes it."""
    steps = len(episode.rewards)
    last = tuple(each[-1:] for each in episode.observations) if episode.terminated else episode.final_observations
    rows = [np.concatenate(pair) for pair in zip(episode.observations, last)]
    actions = [codec.decode(c, d) for c, d in zip(episode.continuous, episode.discrete)]
    ends = np.arange(steps) == steps - 1
    infos = None
    if episode.mask.shape[1]:
        final = np.ones_like(episode.mask[:1]) if episode.terminated else episode.final_mask
        infos = {_MASK: np.concatenate((episode.mask, final))}
    return minari.data_collector.EpisodeBuffer(
        id=number,
        observations=restored(observed, rows),
        actions=stacked(acted, actions),
        rewards=episode.rewards,
        terminations=ends & episode.terminated,
        truncations=ends & (not episode.terminated),
        infos=infos,
    )


def _observation_space(spec: BehaviorSpec) -> Space:
    """Returns a space for a spec. Gymnasium sorts a Dict's keys, and the order counts: else it is a Tuple."""
    boxes = [
        spaces.Box(0, round(1 / o.scale), o.shape, np.uint8)
        if o.dtype == "uint8"
        else spaces.Box(-np.inf, np.inf, o.shape, np.float32)
        for o in spec.observations
    ]
    names = [o.name for o in spec.observations]
    if len(boxes) == 1:
        return boxes[0]
    if names == sorted(set(names)) and not any("/" in name for name in names):  # which HDF5 takes for a folder
        return spaces.Dict(dict(zip(names, boxes)))
    return spaces.Tuple(boxes)


def _action_space(spec: BehaviorSpec) -> Space:
    parts: dict[str, Space] = {}
    if spec.continuous_size:
        parts["continuous"] = spaces.Box(-1, 1, (spec.continuous_size,), np.float32)
    if spec.branches:
        one = len(spec.branches) == 1
        parts["discrete"] = spaces.Discrete(spec.branches[0]) if one else spaces.MultiDiscrete(list(spec.branches))
    return spaces.Dict(parts) if len(parts) > 1 else next(iter(parts.values()))
