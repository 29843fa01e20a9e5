"""A model that plays: an `.onnx` file of ours, or one that ML-Agents has exported (its model version 3).

Shapes: N rows, C continuous actions, D discrete branches, A their choices together, R numbers of the recurrent state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from envs.spec import Array, BehaviorSpec, Decisions, ObservationSpec, UserError
from trainer.data_files import read_data
from trainer.serve.onnx_policy import open_session

MOST_BYTES = 2**30
"""The size of a model."""


class ModelPlayer:
    """A model that acts, with its recurrent state for each agent.

    Raises UserError if the file cannot be read, or does not take what the behavior observes.
    """

    def __init__(self, path: str, spec: BehaviorSpec, deterministic: bool, about: str | None = None) -> None:
        """`about` begins messages; `player=<path>` unless it is given."""
        self._about, self._spec = about or f"player={path}", spec
        try:
            content = read_data(Path(path), MOST_BYTES)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"{self._about} cannot be read ({reason}): name an .onnx file") from error
        self._session = open_session(content, self._about)
        self._taken = {each.name: tuple(each.shape) for each in self._session.get_inputs()}
        given = {each.name: tuple(each.shape) for each in self._session.get_outputs()}
        self._transposed = [self._check_observation(i, each) for i, each in enumerate(spec.observations)]
        self._state_size = self._recurrent_size()
        prefix = "deterministic_" if deterministic else ""
        self._outputs = [f"{prefix}continuous_actions"] if spec.continuous_size else []
        self._outputs += [f"{prefix}discrete_actions"] if spec.branches else []
        wanted = [*self._outputs, *(["recurrent_out"] if self._state_size else [])]
        if missing := [name for name in wanted if name not in given]:
            hint = "; deterministic=false draws its actions" if deterministic else ""
            raise UserError(f"{self._about} gives {', '.join(given)}, and no {missing[0]}{hint}")
        for name, size in zip(self._outputs, [spec.continuous_size or len(spec.branches), len(spec.branches)]):
            if (width := given[name][-1]) not in (size, None) and not isinstance(width, str):
                raise UserError(f"{self._about} gives {width} numbers of {name}, and behavior {spec.name!r} has {size}")
        self._outputs = wanted
        known = {f"obs_{i}" for i in range(len(spec.observations))} | {"action_masks", "recurrent_in"}
        if unknown := sorted(self._taken.keys() - known):
            raise UserError(f"{self._about} takes {', '.join(unknown)}, which behavior {spec.name!r} has not")
        self._states: dict[int, Array] = {}

    def act(self, decisions: Decisions, begun: Array) -> tuple[Array, Array]:
        """Acts for decisions (N,), some of which have `begun` an episode (N,): an `Act`."""
        spec, rows, agents = self._spec, len(decisions.agent), decisions.agent.tolist()
        values: dict[str, Any] = {}
        for i, (observation, seen) in enumerate(zip(spec.observations, decisions.observations)):
            x = np.multiply(seen, observation.scale, dtype=np.float32) if observation.dtype == "uint8" else seen
            values[f"obs_{i}"] = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self._transposed[i] else x
        if "action_masks" in self._taken:
            mask = decisions.mask if spec.masked else np.ones((rows, sum(spec.branches)))
            values["action_masks"] = mask.astype(np.float32)
        if self._state_size:
            nothing = np.zeros(self._state_size, np.float32)
            state = [nothing if new else self._states[agent] for agent, new in zip(agents, begun.tolist())]
            values["recurrent_in"] = np.stack(state)[:, None]
        results = dict(zip(self._outputs, self._session.run(self._outputs, values)))
        if self._state_size:
            self._states.update(zip(agents, results.pop("recurrent_out").reshape(rows, -1)))
        found = {name.removeprefix("deterministic_"): value for name, value in results.items()}
        continuous = found.get("continuous_actions", np.zeros((rows, 0), np.float32))
        discrete = found.get("discrete_actions", np.zeros((rows, 0), np.int32))
        return continuous.astype(np.float32).reshape(rows, -1), discrete.astype(np.int32).reshape(rows, -1)

    def _check_observation(self, i: int, observation: ObservationSpec) -> bool:
        """Returns whether an observation goes into the model with its channels first; UserError if it does not fit."""
        shape, wanted = observation.shape, self._taken.get(f"obs_{i}", ())[1:]
        if shape == wanted:
            return False
        if len(shape) == 3 and (shape[2], shape[0], shape[1]) == wanted:
            return True
        seen = f"obs_{i} of {list(wanted)}" if wanted else ", ".join(self._taken)
        raise UserError(
            f"{self._about} takes {seen}, and behavior {self._spec.name!r} observes {observation.name} of {list(shape)}"
        )

    def _recurrent_size(self) -> int:
        """Returns R."""
        size = self._taken.get("recurrent_in", (0,))[-1]
        if not isinstance(size, int):
            raise UserError(f"{self._about} does not say how much it remembers (the last axis of recurrent_in)")
        return size
