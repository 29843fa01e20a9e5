"""Finds demonstration files, and converts what they hold to the spec of a behavior.

Shapes: T steps; A mask entries.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from algorithms.rewards.registry import RewardSettings
from algorithms.settings import AlgorithmSettings
from buffers.demonstrations import demonstration_rows
from buffers.rows import Rows
from envs.spec import Array, BehaviorSpec, Demonstration, ObservationSpec, UserError
from envs.unity.demo.reader import Demo, read_demo
from trainer.config.schema import DEFAULT_BEHAVIOR, TrainConfig, settings_of

Digests = Mapping[str, Sequence[Sequence[str]]]
"""The demonstrations of a behavior, as JSON: by the key of a path, relative to the behavior's settings, the name and
SHA-256 of each file."""


def demo_paths(algorithm: AlgorithmSettings, rewards: RewardSettings) -> dict[str, str]:
    """Returns where demonstrations are taken from, by the keys that say so, relative to a behavior's settings."""
    parts = {
        **{f"reward.{name}": signal.demo_paths() for name, signal in rewards.items()},
        "algorithm": algorithm.demo_paths(),
    }
    return {f"{part}.{key}": path for part, paths in parts.items() for key, path in paths.items() if path is not None}


def load_demos(config: TrainConfig, spec: BehaviorSpec) -> tuple[dict[str, Rows], Digests]:
    """Returns a behavior's demonstrations as rows by path, and their files' digests; UserError if they do not fit."""
    rows: dict[str, Rows] = {}
    files: dict[str, list[list[str]]] = {}
    settings, _ = settings_of(config, spec.name)
    for path, key in demos_of(config, spec.name).items():
        demos = read_demos(path, key)
        rows[path] = demonstration_rows(spec, _fit(demos, spec), settings.network.memory.numbers)
        files[path] = [[str(file), demo.digest] for file, demo in demos]
    return rows, {key: files[path] for key, path in demo_paths(*settings_of(config, spec.name)).items()}


def changed_demos(before: Digests, now: Digests) -> str | None:
    """Returns a warning about demonstrations that have changed since a run learned from `before`; None if none has.

    Their names do not matter, but their order does.
    """
    changed: set[str] = set()
    for key in before.keys() & now.keys():
        old, new = ([digest for _, digest in files[key]] for files in (before, now))
        if old != new:
            others = [file for file, digest in now[key] if digest not in old]
            gone = [file for file, digest in before[key] if digest not in new]
            changed.update(others or gone or [file for file, _ in now[key]])
    if not changed:
        return None
    return (
        f"The run's demonstrations have changed ({', '.join(sorted(changed))}): it goes on with the current ones, "
        "but not exactly as it would have"
    )


def demos_of(config: TrainConfig, behavior: str) -> dict[str, str]:
    """Returns the paths of a behavior's demonstrations, each with its first key; UserError if only others are named."""
    entry = behavior if behavior in config.behaviors else DEFAULT_BEHAVIOR
    prefix = f"behaviors.{entry}." if config.behaviors else ""
    keys: dict[str, str] = {}
    for key, path in demo_paths(*settings_of(config, behavior)).items():
        keys.setdefault(path, prefix + key)
    return keys


def find_demos(path: str, key: str) -> list[Path]:
    """Returns the `.demo` files of `path`, sorted by name: a file, those of a folder, or of a pattern (`*`, `?`).

    Args:
        path: may begin with `~`.
        key: where it was given, for messages (`reward.gail.demos`).

    Raises:
        UserError: there are none.
    """
    if not path:
        raise UserError(f"{key} is empty: name a .demo file, a folder of them or a pattern, or leave it out")
    given = os.path.expanduser(path)
    if os.path.isdir(given):
        found = sorted(Path(given).glob("*.demo"))
        if not found:
            raise UserError(f"{key}={path}: the folder holds no .demo file; {_how_to_record(Path(path) / 'name.demo')}")
        return found
    if os.path.exists(given):
        found = [Path(given)]
    elif glob.has_magic(given):
        found = sorted(Path(match) for match in glob.glob(given))
        if not found:
            raise UserError(f"{key}={path}: no file fits the pattern (quoted, so that your shell leaves it alone?)")
    else:
        raise UserError(f"{key}={path} does not exist; {_how_to_record(Path(path))}")
    strange = [file for file in found if file.suffix != ".demo" or not file.is_file()]
    if strange:
        raise UserError(f"{key}={path}: {strange[0]} is not a .demo file, which demonstrations are kept in")
    return found


def read_demos(path: str, key: str) -> list[tuple[Path, Demo]]:
    """Returns the files of `path` and what they hold; UserError if there is none, one is damaged or none has a step."""
    demos = [(file, read_demo(file)) for file in find_demos(path, key)]
    if not any(demo.episodes for _, demo in demos):
        which = f"{demos[0][0]} holds" if len(demos) == 1 else f"the {len(demos)} files hold"
        raise UserError(f"{key}={path}: {which} no step that could be learned from")
    return demos


def load_demonstrations(path: str, key: str, spec: BehaviorSpec) -> list[Demonstration]:
    """Returns the episodes of the files of `path` (see `find_demos`) as if agents of `spec` had played them.

    Observations are taken in their order, whatever they are called, and so is the behavior: names in Unity's files are
    the user's. Images may have their channels first or last. Numbers are converted to the spec's type and scale;
    continuous actions are clipped to [-1, 1]. Where the spec has a mask and a file has none, all is allowed; a mask
    that the spec has not is dropped. Raises UserError if there is no such file or it is damaged, it does not fit
    `spec`, or no file holds a step.
    """
    return _fit(read_demos(path, key), spec)


def _fit(demos: Sequence[tuple[Path, Demo]], spec: BehaviorSpec) -> list[Demonstration]:
    return [
        _fit_episode(episode, demo.spec, file, spec)
        for file, demo in demos
        for episode in _checked(demo, file, spec).episodes
    ]


def _checked(demo: Demo, file: Path, spec: BehaviorSpec) -> Demo:
    """Raises UserError if a file's observations or actions are of other sizes."""
    seen, difference = demo.spec, None
    if len(seen.observations) != len(spec.observations):
        names = ", ".join(f"{each.name!r} {_kind(each)}" for each in spec.observations)
        difference = f"it has {len(seen.observations)} observations, not {len(spec.observations)} ({names})"
    elif seen.continuous_size != spec.continuous_size:
        difference = f"it has {seen.continuous_size} continuous actions, not {spec.continuous_size}"
    elif seen.branches != spec.branches:
        difference = f"its discrete branches are {list(seen.branches)}, not {list(spec.branches)}"
    for theirs, ours in zip(seen.observations, spec.observations):
        if difference is None and theirs.shape != ours.shape and _axes(theirs.shape, ours.shape) is None:
            difference = f"its observation {theirs.name!r} is {_kind(theirs)}, not {_kind(ours)}"
    if difference is not None:
        raise UserError(f"{file} does not fit behavior {spec.name!r}: {difference}")
    return demo


def _fit_episode(episode: Demonstration, seen: BehaviorSpec, file: Path, spec: BehaviorSpec) -> Demonstration:
    def fit_all(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        kinds = zip(arrays, seen.observations, spec.observations)
        return tuple(_fit_observation(array, theirs, ours, file, spec.name) for array, theirs, ours in kinds)

    def fit_mask(mask: Array) -> Array:
        return mask if seen.masked and spec.masked else np.ones((len(mask), spec.mask_size), bool)

    return episode._replace(
        continuous=episode.continuous.clip(-1, 1),
        observations=fit_all(episode.observations),
        mask=fit_mask(episode.mask),
        final_observations=fit_all(episode.final_observations),
        final_mask=fit_mask(episode.final_mask),
    )


def _fit_observation(values: Array, seen: ObservationSpec, spec: ObservationSpec, file: Path, behavior: str) -> Array:
    """`values` (T, *seen.shape) as (T, *spec.shape), in the spec's type and scale."""
    axes = _axes(seen.shape, spec.shape)
    if seen.shape != spec.shape and axes is not None:
        values = np.ascontiguousarray(values.transpose(0, *axes))
    if seen.dtype == spec.dtype and np.isclose(seen.scale, spec.scale):
        return values
    scaled = values.astype(np.float64) * (seen.scale / spec.scale)
    if spec.dtype != "uint8":
        return scaled.astype(np.float32)
    whole = np.rint(scaled)
    bad = ~(np.abs(scaled - whole) <= _ROUNDING) | (whole < 0) | (whole > 255)
    if bad.any():
        of = "" if spec.scale == 1 else f" times {spec.scale:.4g}"
        raise UserError(
            f"{file} does not fit behavior {behavior!r}: its observation {seen.name!r} holds "
            f"{float(values[bad][0]) * seen.scale:.6g}, which is not one of the whole numbers from 0 to 255{of} that "
            f"{spec.name!r} consists of"
        )
    return whole.astype(np.uint8)


def _axes(seen: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Returns the order of an image's axes, behind that of steps, if only its channels are in another place."""
    for axes in ((3, 1, 2), (2, 3, 1)):  # channels first; last
        if len(seen) == 3 and tuple(seen[axis - 1] for axis in axes) == wanted:
            return axes
    return None


def _kind(spec: ObservationSpec) -> str:
    return f"{spec.dtype}{list(spec.shape)}"


def _how_to_record(file: Path) -> str:
    return f"record it: outstep record env=... player=... to={file}"


_ROUNDING = 1e-3
"""How far a number may be from a whole one: files hold scaled integers as 32-bit floats."""
