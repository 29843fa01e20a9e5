"""Demonstrations in ML-Agents' `.demo` files, written. `envs.unity.demo.reader` describes the format.

Shapes: T steps of an episode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from envs.process.whole_files import flush
from envs.spec import Array, BehaviorSpec, Demonstration, UserError
from envs.unity.demo.reader import PARAMETERS_AT
from envs.unity.protocol.messages import message, raw_class
from envs.unity.python_player.encoding import Encoder, brain_parameters


class DemoWriter:
    """Writes one file, as ML-Agents' recorder leaves it, and gives it its name when it is closed.

    Until then it is called `….demo.part`, and is this writer's alone. Leaving the context closes it, also on an
    exception: the episodes that were added by then are there. Without an episode no file is left, and one that was
    there before stays as it was.

    Args:
        path: must end in `.demo`. Missing folders are made; a file that is there will be replaced.
        spec: of the behavior whose episodes are added.
        name: of the demonstration; what has no room in the header (most often what is behind 16 bytes) is left out.

    Raises:
        UserError: nothing can be written there, another recording to it is not closed (see `check_free`), or the files
            have no form for such observations.
    """

    def __init__(self, path: Path, spec: BehaviorSpec, name: str) -> None:
        if path.suffix != ".demo" or path.is_dir():
            raise UserError(f"{path}: demonstrations need a file whose name ends in .demo")
        for observation in spec.observations:
            if not 1 <= len(observation.shape) <= 3:
                raise UserError(
                    f"{path}: observation {observation.name!r} has shape {list(observation.shape)}, where files of "
                    "demonstrations hold one to three dimensions"
                )
        self._path, self._spec, self._name = path, spec, name
        self._aside = _aside(path)
        self._steps = self._episodes = 0
        self._reward = 0.0
        self._encoder = Encoder(spec, "chw", mapping=True)
        parameters = message("brain_parameters", "BrainParametersProto")()
        brain_parameters(parameters, spec, f"{spec.name}?team=0")
        parameters.is_training = False  # as in all files of ML-Agents
        header = self._meta() + _delimited(parameters)
        self._end = len(header)
        with _refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = self._aside.open("xb")
            except FileExistsError:
                raise _taken(path) from None
            self._file.write(header)

    def __enter__(self) -> DemoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, episode: Demonstration) -> None:
        """Writes an episode whole, or not at all; one of no steps leaves nothing.

        Of an episode that terminated, the last observation is not known: zeros stand for it.

        Raises:
            UserError: a number in it is not finite, which no reader would take; or the disk refuses it.
        """
        steps = len(episode.rewards)
        if not steps:
            return
        floats = (*episode.observations, *episode.final_observations, episode.continuous, episode.rewards)
        if not all(np.isfinite(values).all() for values in floats):
            raise UserError(
                f"{self._path}: the episode after {self._episodes} others holds numbers that are not finite"
            )
        records = b"".join(self._record(episode, step) for step in range(steps + 1))
        with _refusals(self._path):
            self._file.seek(self._end)  # behind what was written whole
            self._file.write(records)
            self._file.flush()
        self._end += len(records)
        self._steps += steps + 1
        self._episodes += 1
        self._reward += float(np.sum(episode.rewards, dtype=np.float64))

    def close(self) -> None:
        """Completes the header and gives the file its name. May be called again."""
        if self._file.closed:
            return
        with _refusals(self._path):
            with self._file:
                self._file.truncate(self._end)
                self._file.seek(0)
                self._file.write(self._meta())
                self._file.flush()
                os.fsync(self._file.fileno())
            if self._episodes:
                self._aside.replace(self._path)
                flush(self._path.parent)
            else:
                self._aside.unlink()

    def _meta(self) -> bytes:
        """Returns the first `PARAMETERS_AT` bytes of the file."""
        meta = message("demonstration_meta", "DemonstrationMetaProto")(api_version=1, demonstration_name=self._name)
        if self._steps:
            # ML-Agents counts one episode more than have ended, for one that may be open, and takes the mean over all.
            meta.number_steps, meta.number_episodes = self._steps, self._episodes + 1
            meta.mean_reward = self._reward / meta.number_episodes
        while len(_delimited(meta)) > PARAMETERS_AT:
            meta.demonstration_name = meta.demonstration_name[:-1]
        return _delimited(meta).ljust(PARAMETERS_AT, b"\0")

    def _record(self, episode: Demonstration, step: int) -> bytes:
        """Of T + 1, the last of which says how the episode ended."""
        done, mask = step == len(episode.rewards), np.ones(self._spec.mask_size, bool)
        rows: tuple[Array, ...]
        if not done:
            rows, mask = tuple(observation[step] for observation in episode.observations), episode.mask[step]
        elif episode.terminated:
            rows = tuple(np.zeros(each.shape, each.dtype) for each in self._spec.observations)
        else:
            rows, mask = tuple(observation[0] for observation in episode.final_observations), episode.final_mask[0]
        info = self._encoder.info(rows)
        info.id = self._episodes
        info.reward = float(episode.rewards[step - 1]) if step else 0.0
        info.done, info.max_step_reached = done, done and not bool(episode.terminated)
        info.action_mask[:] = (~mask).tolist()
        pair = raw_class("AgentInfoActionPairProto")(agent_info=info)
        acted = min(step, len(episode.rewards) - 1)  # where no action follows, ML-Agents repeats the last one
        pair.action_info.continuous_actions.extend(episode.continuous[acted].tolist())
        pair.action_info.discrete_actions.extend(episode.discrete[acted].tolist())
        return _delimited(pair)


def check_target(path: Path, overwrite: bool) -> None:
    """Raises UserError, which speaks of `to=`, if no demonstrations can be written to `path`."""
    if path.suffix != ".demo":
        raise UserError(f"to={path} must end in .demo, by which demonstrations are known")
    if path.is_dir():
        raise UserError(f"to={path} is a folder: name a file")
    if path.exists() and not overwrite:
        raise UserError(f"to={path} exists: name another file, or replace it with overwrite=true")
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        raise UserError(f"to={path}: {folder} is a file, and should be a folder")
    if not os.access(folder, os.W_OK):
        raise UserError(f"to={path}: nothing can be written in {folder}, name another folder")
    check_free(path)


def check_free(path: Path) -> None:
    """Raises UserError if another recording to `path` was begun and is not closed."""
    if _aside(path).exists():
        raise _taken(path)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _taken(path: Path) -> UserError:
    return UserError(
        f"{path}: another recording to it is going on, or was killed, and has left {_aside(path)}: name another file; "
        "or, if none is going on, remove what was left, or give it a name that ends in .demo to keep its episodes"
    )


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Makes what the disk refuses an error that the user can read."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: it cannot be written ({error.strerror or error})") from None


def _delimited(proto: Any) -> bytes:
    """Returns a message behind its length."""
    serialized: bytes = proto.SerializeToString()
    length, prefix = len(serialized), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + serialized
