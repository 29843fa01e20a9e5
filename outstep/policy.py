"""A trained policy in Python: the environment's observations in, the environment's actions out.

Shapes: N observations; R numbers of the recurrent state; A choices of all discrete branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.spec import Array, BehaviorSpec, UserError

if TYPE_CHECKING:
    from algorithms.policy import Policy as TorchPolicy
    from envs.gym.observations import Space
    from trainer.config.schema import TrainConfig


class Policy:
    """A behavior's policy, as a checkpoint has saved it. `Run.policy` returns one."""

    def __init__(self, policy: TorchPolicy, config: TrainConfig, spaces: Mapping[str, Any] | None) -> None:
        """Wraps the networks of a run with this configuration; `spaces` as saved, None = those of the spec."""
        from envs.gym.observations import observation_parts
        from envs.gym.saved_spaces import space_from_dict
        from envs.gym.spaces import ActionCodec

        self._policy, self._config, self._spec = policy, config, policy.spec
        self.observation_space, self.action_space = (
            (space_from_dict(spaces["observation"]), space_from_dict(spaces["action"]))
            if spaces is not None
            else _spaces(policy.spec)
        )
        most = self._spec.max_entities
        parts = observation_parts(self.observation_space, prepare_images=True, max_entities=most)
        if tuple(part.spec for part in parts) != self._spec.observations:
            parts = observation_parts(self.observation_space, prepare_images=False, max_entities=most)
        self._parts, self._decode = parts, ActionCodec(self.action_space).decode

    @property
    def behavior(self) -> str:
        """The name of the behavior whose policy it is."""
        return self._spec.name

    @property
    def state_size(self) -> int:
        """R: how many numbers the recurrent state has; 0 without recurrence."""
        return self._policy.state_size

    def predict(
        self, observation: Any, state: Array | None = None, deterministic: bool = True, *, mask: Any = None
    ) -> tuple[Any, Array | None]:
        """Returns what to do, and the recurrent state afterwards.

        One observation gives one action. Many at once, as a Gymnasium vector environment stacks them (of a Dict or
        Tuple space: each part stacked), give as many, stacked in the same way.

        Args:
            observation: as the environment returns it: an array, a number, a dict or a tuple; or N of them, stacked.
                Of a behavior without Gymnasium spaces, such as a Unity player's: its array, or a dict of several by
                their names.
            state: the recurrent state that the call before returned, (R,) or (N, R) float32; None where episodes begin.
                Zeros in a row begin an episode there. Policies without recurrence ignore it.
            deterministic: whether the likeliest action is taken; else it is drawn by torch's global generator.
            mask: which choices are allowed, as `info["action_mask"]`: (A,) or (N, A) bool; None = all.

        Returns:
            The action, as the environment's `step` takes it, and the state, (R,) or (N, R) float32; None without
            recurrence. Of a behavior without Gymnasium spaces: continuous actions in [-1, 1], the number of a choice
            for each discrete branch, or a dict with `continuous` and `discrete`.

        Raises:
            UserError: an observation, a state or a mask that does not fit.
        """
        rows, many = self._rows(observation)
        count = len(rows[0])
        before = self._state(state, count, many)
        acted = self._policy.act(rows, self._mask(mask, count, many), before, None, deterministic)
        actions = [self._decode(*row) for row in zip(acted.continuous, acted.discrete)]
        after = acted.recurrent_state if self.state_size else None
        if many:
            return _stacked(actions), after
        return actions[0], None if after is None else after[0]

    def export(self, path: str | Path) -> Path:
        """Writes the policy as an ONNX model, which Unity and onnxruntime open, and returns its path.

        Raises UserError if the name does not end in `.onnx`, the file cannot be written, or the network is one that
        ONNX does not know.
        """
        from envs.process.whole_files import write_whole
        from trainer.export.model_file import SUFFIX, exported_model

        path = Path(path).expanduser()
        if path.suffix != SUFFIX:
            raise UserError(f"export({str(path)!r}): name a file that ends in {SUFFIX}")
        try:
            write_whole(path, exported_model(self._policy, self._config))
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): name another") from error
        return path

    def __repr__(self) -> str:
        return f"Policy of {self.behavior!r}: {self.observation_space} to {self.action_space}"

    def _rows(self, observation: Any) -> tuple[list[Array], bool]:
        """Returns the arrays of the spec, (N, *shape) each, and whether there are many observations or just one."""
        from envs.gym.spaces import follow
        from envs.gym.values import shortened

        rows, counts = [], set()
        for part in self._parts:
            try:
                given = follow(observation, part.path)
            except (KeyError, IndexError, TypeError):
                raise UserError(
                    f"the observation lacks {part.spec.name!r} of its space {self.observation_space}; "
                    f"it is {shortened(observation)}"
                ) from None
            many = _are_many(_leaf(self.observation_space, part.path), given, part.spec.name)
            counts.add(len(given) if many else None)
            row = np.empty((len(given) if many else 1, *part.spec.shape), part.spec.dtype)
            for place, value in zip(row, given if many else [given]):
                part.write(value, place)
            rows.append(row)
        if len(counts) > 1:
            raise UserError(f"the parts of the observation are not of one number: {sorted(map(str, counts))}")
        return rows, counts != {None}

    def _state(self, state: Array | None, count: int, many: bool) -> Array:
        shape = (count, self.state_size)
        if state is None or not self.state_size:
            return np.zeros(shape, np.float32)
        given = np.asarray(state, np.float32)
        if given.shape != (shape if many else shape[1:]):
            right = list(shape if many else shape[1:])
            raise UserError(f"state has shape {list(given.shape)}; {right} is right, or None where episodes begin")
        return np.ascontiguousarray(given.reshape(shape))

    def _mask(self, mask: Any, count: int, many: bool) -> Array:
        from envs.gym.spaces import write_mask

        branches = self._spec.branches
        if mask is None:
            return np.ones((count, 0), np.bool_)
        rows = np.ones((count, sum(branches)), np.bool_)
        masks = mask if many else [mask]
        if not branches or len(masks) != count:
            right = f"{count} of them need as many" if branches else "this policy has no discrete choices"
            raise UserError(f"mask of {len(masks)} observations: {right}")
        for row, each in zip(rows, masks):
            try:
                write_mask(each, branches, row)
            except ValueError as error:
                raise UserError(f"mask: {error}") from error
        return rows


def _are_many(space: Space, given: Any, name: str) -> bool:
    """Returns whether `given` is many observations of a space, or one; UserError if it is neither."""
    from gymnasium import spaces

    from envs.gym.sequences import are_many
    from envs.gym.values import shortened

    if isinstance(space, spaces.Sequence):
        try:
            return are_many(space, given)
        except (TypeError, LookupError):
            raise UserError(f"observation {name!r} is {shortened(given)}; a sequence is right") from None
    shape, seen = space.shape or (), np.shape(given)
    if len(seen) not in (len(shape), len(shape) + 1) or seen[len(seen) - len(shape) :] != shape:
        right = f"{list(shape)} is right, and [N, {str(list(shape))[1:-1]}] for many"
        raise UserError(f"observation {name!r} has shape {list(seen)}; {right}")
    return len(seen) > len(shape)


def _spaces(spec: BehaviorSpec) -> tuple[Space, Space]:
    """Returns spaces for a behavior that was made from none: a part for each of its observations and actions."""
    from gymnasium import spaces

    boxes: dict[str, Space] = {}
    for each in spec.observations:
        low, high, dtype = (0, 255, np.uint8) if each.dtype == "uint8" else (-np.inf, np.inf, np.float32)
        boxes[each.name] = spaces.Box(low, high, each.shape, dtype)
    actions: dict[str, Space] = {}
    if spec.continuous_size:
        actions["continuous"] = spaces.Box(-1, 1, (spec.continuous_size,), np.float32)
    if spec.branches:
        one = len(spec.branches) == 1
        actions["discrete"] = spaces.Discrete(spec.branches[0]) if one else spaces.MultiDiscrete(list(spec.branches))
    return _alone(boxes), _alone(actions)


def _alone(parts: dict[str, Space]) -> Space:
    from gymnasium import spaces

    return next(iter(parts.values())) if len(parts) == 1 else spaces.Dict(list(parts.items()))


def _leaf(space: Any, path: tuple[Any, ...]) -> Space:
    for key in path:
        space = space[key]
    found: Space = space
    return found


def _stacked(actions: list[Any]) -> Any:
    """Returns actions of one space stacked: each part of a dict or a tuple by itself."""
    first = actions[0] if actions else np.zeros(0)
    if isinstance(first, dict):
        return {key: _stacked([each[key] for each in actions]) for key in first}
    if isinstance(first, tuple):
        return tuple(_stacked([each[i] for each in actions]) for i in range(len(first)))
    return np.array(actions)
