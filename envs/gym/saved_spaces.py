"""Gymnasium's spaces as JSON can hold them, and back: what observations and actions of a saved policy look like."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from envs.gym.observations import Space, refusal
from envs.spec import Array


def space_to_dict(space: Space) -> dict[str, Any]:
    """Returns a space as JSON can hold it. UserError for one of a kind that is not served."""
    if isinstance(space, spaces.Box):
        bounds = {"low": _short(space.low), "high": _short(space.high)}
        return {"kind": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(space.start, space.nvec.shape)
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": list(space.shape) if len(space.shape) > 1 else space.shape[0]}
    if isinstance(space, spaces.Dict):
        # Pairs, as a key need not be a string, and their order counts.
        return {"kind": "Dict", "parts": [[key, space_to_dict(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "parts": [space_to_dict(part) for part in space.spaces]}
    if isinstance(space, spaces.Sequence):
        return {"kind": "Sequence", "of": space_to_dict(space.feature_space), "stack": space.stack}
    raise refusal(space, "space")


def space_from_dict(data: dict[str, Any]) -> Space:
    """Returns the space that `space_to_dict` wrote; KeyError, TypeError or ValueError if it is none."""
    kind = data["kind"]
    if kind == "Box":
        shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
        low, high = (np.broadcast_to(np.asarray(data[bound], dtype), shape) for bound in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(data["n"], start=data["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(data["nvec"]), np.dtype(data["dtype"]).type, start=np.array(data["start"]))
    if kind == "MultiBinary":
        return spaces.MultiBinary(data["n"])
    if kind == "Dict":
        return spaces.Dict([(key, space_from_dict(part)) for key, part in data["parts"]])
    if kind == "Tuple":
        return spaces.Tuple([space_from_dict(part) for part in data["parts"]])
    if kind == "Sequence":
        return spaces.Sequence(space_from_dict(data["of"]), stack=bool(data["stack"]))
    raise ValueError(f"{kind!r} is no kind of space")


def _short(bound: Array) -> Any:
    """Returns a bound as nested lists; as one number if all are the same, as in images."""
    return bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound.tolist()
