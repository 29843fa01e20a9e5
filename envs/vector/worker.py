"""What a worker does with a batched environment: what comes back of one call goes into the slots in few operations.

Where an instance is reset in the step behind its end, that step is no sample: what has ended is told with the next
episode's first observation, and nobody is asked in between.

Shapes: N instances of one batch, n of them that are stepped together.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import iterate

from envs.gym.adapter import GymAdapter, behavior_spec
from envs.gym.observations import Space
from envs.gym.probe import Pace, Probe
from envs.gym.saved_spaces import space_to_dict
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, Slots
from envs.gym.spaces import scalar_metrics
from envs.gym.values import WrongValue, finite_reward
from envs.gym.worker import Driver, Report, WorkPlan
from envs.imports import described
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, UserError
from envs.vector.environment import Batch, BatchEnv, PoolBatch, Stepped


class OneOf(NamedTuple):
    """The spaces of one instance of a batch."""

    observation_space: Space
    action_space: Space


@dataclass(frozen=True)
class BatchPlan(WorkPlan[BatchEnv, BehaviorSpec]):
    """What a worker is to do with a batch."""

    def drivers(self, block: Any, report: Callable[[Report], object]) -> tuple[Array, list[Driver]]:  # noqa: D102
        raise NotImplementedError("a batch has one worker for all its instances")

    def worker(  # noqa: D102
        self, block: Any, answer: Callable[[bytes], object], report: Callable[[Report], object]
    ) -> BatchWorker:
        return BatchWorker(self, block, answer, report)


class BatchWorker:
    """Steps all instances of a plan with one environment; arguments as of `envs.gym.worker.Worker`."""

    def __init__(
        self, plan: BatchPlan, block: Any, answer: Callable[[bytes], object], report: Callable[[Report], object]
    ) -> None:
        self._plan, self._answer, self._report = plan, answer, report
        mine = slice(plan.first, plan.first + plan.count)
        slots = self._slots = Slots(plan.spec, plan.instances, block)
        self._observations = tuple(field[mine] for field in slots.observations)
        self._finals = tuple(field[mine] for field in slots.final_observations)
        self._mask, self._final_mask = slots.mask[mine], slots.final_mask[mine]
        self._reward, self._flags, self._episode = slots.reward[mine], slots.flags[mine], slots.episode[mine]
        self._continuous, self._discrete, self._busy = slots.continuous[mine], slots.discrete[mine], slots.busy[mine]
        self._over = np.zeros(plan.count, bool)
        """(N,) instances whose next step is their reset."""
        self._batch: Batch | None = None
        self._called: set[int] = set()

    def pump(self, commands: bytes) -> None:
        """Handles `commands` (local indices), and answers what is done by then.

        What the environment raises ends the worker: it concerns all instances.
        """
        try:
            if self._batch is None:
                self._begin(commands)
                return
            if commands:
                index = np.frombuffer(commands, np.uint8).astype(np.int64)
                self._batch.send(index, self._actions(index))
            if self._batch.ready():
                self._hear(self._batch)
        except (KeyboardInterrupt, ConnectionError):
            raise
        except BaseException as error:
            text = f"its env raised\n{''.join(traceback.format_exception(error))}"
            self._report(Report("last words", self._plan.first, str(error) if isinstance(error, WrongValue) else text))
            raise SystemExit(1) from None

    def wait(self) -> float | None:
        """Seconds until something may be done without a command; None if only a command can bring events."""
        return 0.0 if self._batch is not None and self._batch.ready() else None

    def close(self) -> None:
        """Closes the environment."""
        if self._batch is not None:
            with contextlib.suppress(BaseException):
                self._batch.close()

    def _begin(self, commands: bytes) -> None:
        self._called.update(commands)
        if len(self._called) < self._plan.count:
            return
        plan = self._plan
        seed = episode_seed(plan.seed, plan.first, int(self._episode.max()) + 1)
        before = time.perf_counter()
        self._batch = plan.env.make(plan.count, seed)
        self._adapter = Adapter(self._batch, plan.spec)
        for stepped in self._batch.reset(seed):
            self._flags[stepped.local] = 0
            self._episode[stepped.local] += 1
            self._show(stepped)
        self._busy += time.perf_counter() - before
        self._answer(bytes(range(plan.count)))

    def _actions(self, index: Array) -> Any:
        return self._adapter.actions(self._continuous[index], self._discrete[index])

    def _hear(self, batch: Batch) -> None:
        before = time.perf_counter()
        stepped = batch.recv()
        index = stepped.local
        self._busy[index] += time.perf_counter() - before
        begun = self._over[index]
        terminated = np.asarray(stepped.terminated, bool) & ~begun
        truncated = np.asarray(stepped.truncated, bool) & ~terminated & ~begun
        ended = terminated | truncated
        flags = np.where(terminated, STEPPED | TERMINATED, np.where(truncated, STEPPED | TRUNCATED, STEPPED))
        going = ~begun
        self._flags[index[going]] = flags[going]
        self._reward[index[going]] = _rewards(np.asarray(stepped.reward)[going])
        if ended.any():
            self._end(stepped, np.flatnonzero(ended), truncated, batch.same_step)
        asking = np.ones(len(index), bool)
        if not batch.same_step:
            self._over[index] = ended
            asking = ~ended
            self._episode[index[begun]] += 1
        else:
            self._episode[index[ended]] += 1
        self._show(stepped)
        if (waiting := index[asking].astype(np.uint8)).size:
            self._answer(waiting.tobytes())
        if not asking.all():  # they are reset by a step of their own, whatever the action
            again = index[~asking]
            batch.send(again, self._actions(again))

    def _end(self, stepped: Stepped, rows: Array, truncated: Array, same_step: bool) -> None:
        """Keeps the last observations of those cut off, and what `info` says of all that have ended, in `rows`."""
        info: Mapping[str, Any] = stepped.info.get("final_info", stepped.info) if same_step else stepped.info
        seen = None if same_step else self._adapter.each(stepped.observation)
        for row in rows.tolist():
            local = int(stepped.local[row])
            if truncated[row]:
                last = stepped.info["final_obs"][row] if seen is None else seen[row]
                self._adapter.one.observe(last, tuple(field[local] for field in self._finals))
                self._adapter.one.mask(_masks(info, row), self._final_mask[local])
            if numbers := _numbers(info, row):
                instance = self._plan.first + local
                self._report(Report("metrics", instance, {instance: numbers}))
                self._flags[local] |= METRICS

    def _show(self, stepped: Stepped) -> None:
        self._adapter.observe(stepped.observation, stepped.local, self._observations)
        if self._plan.spec.masked:
            for row, local in enumerate(stepped.local.tolist()):
                self._adapter.one.mask(_masks(stepped.info, row), self._mask[local])


class Adapter:
    """Takes observations of a batch into rows, and rows of actions to a batch: at once where spaces are plain."""

    def __init__(self, batch: Batch, spec: BehaviorSpec) -> None:
        env = batch.env
        whole = isinstance(batch, PoolBatch)
        self._space = env.observation_space if whole else env.single_observation_space
        self._batched = None if whole else env.observation_space
        action_space = env.action_space if whole else env.single_action_space
        self.one = GymAdapter(OneOf(self._space, action_space), spec)
        box = self._space if isinstance(self._space, spaces.Box) else None
        self._at_once = (
            box is not None
            and len(spec.observations) == 1
            and spec.observations[0].shape == (box.shape or (1,))
            and (spec.observations[0].dtype == "float32" or (box.dtype == np.uint8 and box.high.min() == 255))
        )
        self._first_action = int(action_space.start) if isinstance(action_space, spaces.Discrete) else None

    def observe(self, observation: Any, index: Array, rows: tuple[Array, ...]) -> None:
        """Writes what instances `index` (n,) see into `rows`, (N, *shape) each."""
        if self._at_once:
            values = np.asarray(observation)
            (field,) = rows
            field[index] = values.reshape(len(index), *field.shape[1:])
            if values.dtype == np.uint8 or np.isfinite(np.vdot(values, values)):
                return
        for local, one in zip(index.tolist(), self.each(observation)):
            self.one.observe(one, tuple(field[local] for field in rows))

    def each(self, observation: Any) -> list[Any]:
        """Returns an observation of a batch as those of its instances."""
        if self._batched is not None:
            return list(iterate(self._batched, observation))
        return list(observation)

    def actions(self, continuous: Array, discrete: Array) -> Any:
        """Returns actions (n,) for the batch."""
        if self._first_action is not None:
            return discrete[:, 0] + self._first_action
        return [self.one.action(*row) for row in zip(continuous, discrete)]


def look_at_batch(env: BatchEnv, seed: int, answer: Connection) -> None:
    """Main function of the process that takes a first look; see `envs.gym.probe.Look`."""
    batch, stage = None, "cannot be made"
    try:
        batch = env.make(2, seed)
        whole = isinstance(batch, PoolBatch)
        own = batch.env
        one = OneOf(
            own.observation_space if whole else own.single_observation_space,
            own.action_space if whole else own.single_action_space,
        )
        stage = "fails in its first reset"
        first = batch.reset(seed)[0]
        spec = behavior_spec(one, env.behavior, "action_mask" in first.info, env.prepare_images)
        adapter = Adapter(batch, spec)
        rows = tuple(np.zeros((2, *o.shape), o.dtype) for o in spec.observations)
        adapter.observe(first.observation, first.local, rows)
        spaces_ = {"observation": space_to_dict(one.observation_space), "action": space_to_dict(one.action_space)}
        answer.send(Probe((spec,), False, {spec.name: spaces_}))
        answer.send(Pace(durations=False, step_seconds=0.0))
    except WrongValue as error:
        answer.send(f"Environment {env.id!r} {stage}: {error}")
    except UserError as error:
        answer.send(str(error))
    except BaseException as error:  # also sys.exit and what only Ctrl+C raises elsewhere
        answer.send(f"Environment {env.id!r} {stage}: {described(error)}")
    finally:
        if batch is not None:
            with contextlib.suppress(BaseException):
                batch.close()


def _rewards(rewards: Array) -> Array:
    if not np.isfinite(rewards).all():
        for reward in rewards:
            finite_reward(float(reward))
    return rewards


def _masks(info: Mapping[str, Any], row: int) -> Mapping[str, Any]:
    """Returns the action mask of one instance, if `info` has one."""
    return {"action_mask": info["action_mask"][row]} if "action_mask" in info else {}


def _numbers(info: Mapping[str, Any], row: int) -> dict[str, float]:
    """Returns what `info` says of one instance in plain numbers."""
    own = {
        name: values[row]
        for name, values in info.items()
        if isinstance(values, np.ndarray) and values.ndim == 1 and len(values) > row
        if name not in _BOOKKEEPING and not name.startswith("_")
        if (has := info.get(f"_{name}")) is None or has[row]
    }
    return scalar_metrics(own)


_BOOKKEEPING = {"env_id", "elapsed_step", "action_mask"}
