"""How a batched environment is made, and how it is stepped: all at once, or whoever is ready.

Shapes: N instances of one batch, n of them that are stepped together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from envs.gym.adapter import check_call
from envs.gym.values import WrongValue, shortened
from envs.imports import imported
from envs.spec import Array, UserError


class Stepped(NamedTuple):
    """What n instances answer."""

    local: Array
    """(n,) int64: which of them."""
    observation: Any
    """Theirs, batched as the space says."""
    reward: Array
    terminated: Array
    truncated: Array
    info: Mapping[str, Any]
    """Arrays by name (n,), with a mask `_name` where not all have one."""


class Batch(ABC):
    """N instances that one call steps."""

    same_step = False
    """Whether an instance that ends is reset in the same step, its last observation being `final_obs` in `info`."""

    def __init__(self, env: Any) -> None:
        self.env = env

    @abstractmethod
    def reset(self, seed: int) -> list[Stepped]:
        """Begins an episode in each instance."""

    @abstractmethod
    def send(self, index: Array, actions: Any) -> None:
        """Lets these instances (n,) step."""

    @abstractmethod
    def ready(self) -> bool:
        """Returns whether enough of them step for `recv`."""

    @abstractmethod
    def recv(self) -> Stepped:
        """Returns what is done, once it is."""

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()


class WholeBatch(Batch):
    """A Gymnasium `VectorEnv`: all step together, once all have an action."""

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        mode = (env.metadata or {}).get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise WrongValue(
                f"its autoreset mode is {shortened(mode)}: instances that end must be reset, in the same step or "
                "the next (gymnasium.vector.AutoresetMode.SAME_STEP or NEXT_STEP)"
            )
        self.same_step = mode is AutoresetMode.SAME_STEP
        self._all = np.arange(env.num_envs)
        self._space = env.single_action_space
        self._actions: list[Any] = [None] * env.num_envs
        self._given = 0
        self._plain = isinstance(self._space, gymnasium.spaces.Discrete)
        self._row = np.zeros(env.num_envs, np.int64)

    def reset(self, seed: int) -> list[Stepped]:  # noqa: D102
        self._given = 0
        observation, info = self.env.reset(seed=seed)
        none, zeros = np.zeros(len(self._all), bool), np.zeros(len(self._all), np.float32)
        return [Stepped(self._all, observation, zeros, none, none, info)]

    def send(self, index: Array, actions: Any) -> None:  # noqa: D102
        self._given += len(index)
        if self._plain:
            self._row[index] = actions
        else:
            for i, action in zip(index.tolist(), actions):
                self._actions[i] = action

    def ready(self) -> bool:  # noqa: D102
        return self._given == len(self._all)

    def recv(self) -> Stepped:  # noqa: D102
        self._given = 0
        if self._plain:
            actions: Any = self._row
        else:
            empty: Any = gymnasium.vector.utils.create_empty_array(self._space, len(self._all))
            actions = gymnasium.vector.utils.concatenate(self._space, self._actions, empty)
        result = self.env.step(actions)
        if type(result) is not tuple or len(result) != 5:
            raise WrongValue(f"step() returned {shortened(result)}; right is what a VectorEnv returns")
        return Stepped(self._all, *result)


class PoolBatch(Batch):
    """An environment of EnvPool: those step that have an action, and the first `batch` that are done are taken."""

    def __init__(self, env: Any, batch: int) -> None:
        super().__init__(env)
        self._batch, self._stepping = batch, 0
        self._plain = isinstance(env.action_space, gymnasium.spaces.Discrete)

    def reset(self, seed: int) -> list[Stepped]:
        """Begins an episode in each; the seed is given when it is made."""
        self.env.async_reset()
        self._stepping = int(self.env.config["num_envs"])
        return [self.recv() for _ in range(self._stepping // self._batch)]

    def send(self, index: Array, actions: Any) -> None:  # noqa: D102
        self._stepping += len(index)
        space = self.env.action_space
        dtype = np.int32 if self._plain else space.dtype
        self.env.send(np.asarray(actions, dtype), index.astype(np.int32))

    def ready(self) -> bool:  # noqa: D102
        return self._stepping >= self._batch

    def recv(self) -> Stepped:  # noqa: D102
        observation, reward, terminated, truncated, info = self.env.recv()
        self._stepping -= len(reward)
        return Stepped(info["env_id"].astype(np.int64), observation, reward, terminated, truncated, info)


@dataclass(frozen=True)
class BatchEnv:
    """How to make a batched environment. Picklable: each worker makes its own."""

    id: str
    """`envpool:<task>`, `gymnasium:<id>`, or `package.module:Name`, what makes one for `num_envs`."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    """Instances of EnvPool that are taken at once; None = half of them."""
    prepare_images: bool = True
    time_scale: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def behavior(self) -> str:
        """Name of its one behavior."""
        return self.id.rpartition(":")[2].rpartition("/")[2]

    def check(self) -> None:
        """Refuses what can be refused without making it: by a UserError."""
        kind, _, name = self.id.rpartition(":")
        if kind == "envpool":
            if find_spec("envpool") is None:
                raise UserError(
                    f"env.vector={self.id}: envpool is missing: pip install 'outstep[envpool]' (on Linux, with Python "
                    "3.11 or later)"
                )
        elif kind == "gymnasium":
            from envs.gym.adapter import GymEnv

            GymEnv(name).check()
        else:
            check_call(f"Environment {self.id!r} (env.kwargs)", self._factory(), (), {"num_envs": 1, **self.kwargs})

    def make(self, count: int, seed: int) -> Batch:
        """Returns a new one of `count` instances."""
        kind, _, name = self.id.rpartition(":")
        if kind == "envpool":
            import envpool

            batch = min(count, self.batch or max(1, count // 2))
            while count % batch:  # so many times as it takes to hear of all at the start
                batch -= 1
            made = {"env_type": "gymnasium", "num_envs": count, "batch_size": batch, "seed": seed & 0x7FFFFFFF}
            return PoolBatch(envpool.make(name, **{**made, **self.kwargs}), batch)
        if kind == "gymnasium":
            env: Any = gymnasium.make_vec(name, num_envs=count, **self.kwargs)
        else:
            env = self._factory()(num_envs=count, **self.kwargs)
        if not isinstance(env, gymnasium.vector.VectorEnv):
            raise UserError(f"env.vector={self.id} makes {type(env).__name__}, and no gymnasium.vector.VectorEnv")
        if env.num_envs != count:
            raise UserError(f"env.vector={self.id} makes {env.num_envs} instances, and num_envs={count} were asked for")
        return WholeBatch(env)

    def _factory(self) -> Callable[..., Any]:
        found = imported(self.id, "env.vector")
        if not callable(found):
            raise UserError(f"env.vector={self.id} is {type(found).__name__}, and no class or function")
        made: Callable[..., Any] = found
        return made
