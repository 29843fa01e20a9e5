"""A first look at an env, in a process of its own: its spec, how long a step takes, and so how many workers to use."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from envs.gym.adapter import Env, GymAdapter, GymEnv, begin, behavior_spec, parameters_method
from envs.gym.saved_spaces import space_to_dict
from envs.gym.values import WrongValue, duration_seconds, ended, finite_reward, reset_result, step_result
from envs.imports import described
from envs.parameters import Parameters
from envs.process.cores import own_cores
from envs.process.lifetime import CLOSE_SECONDS, described_end, end_process, start_following
from envs.seeding import episode_seed
from envs.spec import Array, BehaviorSpec, Lessons, UserError

INSTANCES_PER_WORKER = 256
SHORT_STEP_SECONDS = 50e-6
"""A wake-up costs about as much: shorter steps are taken several to a worker."""
_PROBE_STEPS = 200
_PROBE_SECONDS = 0.5
_PACE_SECONDS = 3.0
_LESSONS_SECONDS = 2.0
_FIRST_WORD_SECONDS = 5.0
_LOG = logging.getLogger("outstep")


class Pace(NamedTuple):
    """How an env spends its time."""

    durations: bool
    """Whether `info` holds `duration`: then one worker can wait for many instances at once."""
    step_seconds: float
    """Median of some random steps; infinity if none succeeded."""
    longest_duration: float = 0.0
    """Seconds: the longest `duration` that was seen."""


UNKNOWN_PACE = Pace(durations=False, step_seconds=math.inf)


@dataclass(frozen=True)
class Probe:
    """What the first look found."""

    specs: tuple[BehaviorSpec, ...]
    pictures: bool
    """Whether the env can render `rgb_array`."""
    spaces: dict[str, dict[str, Any]]
    """By behavior its `observation` and `action` space, as `envs.gym.saved_spaces` writes them."""
    pace: Pace = UNKNOWN_PACE
    parameters_seen: bool = True
    """Whether anything has looked at its environment parameters, if it was given some."""

    @property
    def spec(self) -> BehaviorSpec:
        """That of the first behavior, where there is one."""
        return self.specs[0]


class Named(Protocol):
    """How to make an environment; picklable."""

    @property
    def id(self) -> str:
        """Its name for messages."""


Look = Callable[[Any, int, Connection], None]
"""Makes an environment, and sends a `Probe` and then a `Pace`; or, in place of both, what is wrong as text."""


def probe(env: Named, seed: int, timeout: float, look: Look | None = None) -> Any:
    """Makes one env in a process of its own, resets it, and takes some random steps.

    A later step than the first that fails or does not return ends the look, and no more: a worker will report it.

    Args:
        env: how to make one.
        seed: of the first episode.
        timeout: seconds.
        look: what looks at it, a function of a module; None = `_look_at_gym`, which finds a `Probe`.

    Raises:
        UserError: it cannot be made, or fails in its first reset or step, in a few lines that name the
            mistake; it has spaces that cannot be served, or takes longer than `timeout` seconds for all that.
    """
    ours, theirs = get_context("spawn").Pipe(duplex=False)
    process = start_following("probe", look or _look_at_gym, env, seed, theirs)
    theirs.close()
    found, close_seconds = None, 0.0
    try:
        if _answers(ours, env, timeout):
            found, close_seconds = ours.recv(), CLOSE_SECONDS
        if isinstance(found, Probe):
            with contextlib.suppress(EOFError):
                if ours.poll(_PACE_SECONDS):
                    found = replace(found, pace=ours.recv())
                else:
                    close_seconds = 0.0
            return found
    except EOFError:
        process.join(1.0)
        raise UserError(
            f"Environment {env.id!r}: while it was made, reset and stepped for the first time, "
            f"{described_end(process.exitcode)}."
        ) from None
    finally:
        end_process(process, close_seconds)
        ours.close()
    if found is None:
        raise UserError(
            f"Environment {env.id!r} was not made, reset and stepped once within {timeout:g} s. "
            "Raise env.step_timeout if it needs longer."
        )
    raise UserError(str(found))


def choose_workers(instances: int, pace: Pace) -> int:
    """Returns how many workers to use: one for each instance whose steps block, else at most one for each core.

    Measured on 2 cores, 32 instances with 1 ms steps and 200 ms every 200 steps: env utilization 0.863 in 2 workers,
    0.855 in 4, 0.822 in 8. A worker gets four instances at least, so that it pays for its process.
    """
    if pace.durations:
        workers = min(-(-instances // 4), own_cores())
    elif pace.step_seconds < SHORT_STEP_SECONDS:
        workers = min(instances, own_cores())
    else:
        workers = instances
    return max(workers, -(-instances // INSTANCES_PER_WORKER))


def _answers(answer: Connection, env: Named, timeout: float) -> bool:
    """Waits for the first look, and says now and then that it does; returns whether it has come in time."""
    waited, wait = 0.0, _FIRST_WORD_SECONDS
    while waited < timeout:
        wait = min(wait, timeout - waited)
        if answer.poll(wait):
            return True
        waited, wait = waited + wait, waited + wait  # 5, 10, 20, 40, ... seconds in all
        _LOG.warning(f"Environment {env.id!r} is being made for a first look: {waited:g} of at most {timeout:g} s.")
    return False


def _look_at_gym(gym_env: GymEnv, seed: int, answer: Connection) -> None:
    env, stage = None, "cannot be made"
    try:
        env = gym_env.make()
        if _knows_spaces(env):  # a reset may take long
            behavior_spec(env, gym_env.behavior, max_entities=gym_env.max_entities)
        stage = "fails in its first reset"
        parameters = Parameters(gym_env.parameters)
        given = parameters.episode(parameters.first, seed, 0, 0).values
        observation, info = reset_result(begin(env, episode_seed(seed, 0, 0), given, Options))
        seen = not given or Options.seen or parameters_method(env) is not None
        masked, prepared = "action_mask" in info, gym_env.prepare_images
        spec = behavior_spec(env, gym_env.behavior, masked, prepared, gym_env.max_entities)
        look = _Look(env, spec, given)
        look.see(observation, info)
        stage = "fails in its first step"
        look.step()
        until = time.perf_counter() + _LESSONS_SECONDS
        for values in lesson_values(parameters, seed):
            stage = f"fails in a reset with the parameters {values}"
            look.see(*reset_result(begin(env, episode_seed(seed, 0, 0), values)))
            if time.perf_counter() > until:
                break
        spaces = {"observation": space_to_dict(env.observation_space), "action": space_to_dict(env.action_space)}
        answer.send(Probe((spec,), gym_env.draws(env), {spec.name: spaces}, parameters_seen=seen))
        answer.send(time_steps(look))
    except BaseException as error:  # also sys.exit and what only Ctrl+C raises elsewhere
        answer.send(_refusal(gym_env, env, stage, error))
    finally:
        if env is not None:
            with contextlib.suppress(BaseException):
                env.close()


def lesson_values(parameters: Parameters, seed: int) -> Iterator[Mapping[str, float]]:
    """Yields what an episode gets in each lesson, the last ones first: a wrong value of theirs shows up late."""
    for name, lessons in parameters.lessons.items():
        for at in reversed(range(1, len(lessons))):
            played = Lessons(0, tuple(at * (other == name) for other in parameters.lessons))
            yield parameters.of(played, seed, 0, 0).values


def _knows_spaces(env: Env) -> bool:
    """Returns whether an env has its spaces before its first reset, as nearly all do."""
    try:
        return env.observation_space is not None and env.action_space is not None
    except Exception:  # of a property
        return False


class Options(dict[str, Any]):
    """The `options` of a reset, which note whether anything looks for the parameters in them."""

    seen = False

    def __getitem__(self, key: str) -> Any:
        Options.seen |= key == "parameters"
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: D102
        Options.seen |= key == "parameters"
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        Options.seen |= key == "parameters"
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        Options.seen = True  # whoever copies them may look later
        return super().__iter__()


class _Look:
    """An env that is played by chance, with every value checked as a worker does."""

    def __init__(self, env: Env, spec: BehaviorSpec, parameters: Mapping[str, float]) -> None:
        self.env, self._parameters = env, parameters
        self._spec, self._adapter = spec, GymAdapter(env, spec)
        self._rows = tuple(np.zeros(each.shape, each.dtype) for each in spec.observations)
        self._mask = np.ones(spec.mask_size, bool)
        self._rng = np.random.default_rng(0)
        self.longest: float | None = None
        """The longest duration so far; None if there is none."""

    def see(self, observation: Any, info: Mapping[str, Any]) -> None:
        """Takes what reset and step return."""
        self._adapter.observe(observation, self._rows)
        self._adapter.mask(info, self._mask)
        if info.get("duration") is not None:
            self.longest = max(self.longest or 0.0, duration_seconds(info["duration"]))

    def step(self) -> float:
        """Takes one random step, and a reset if the episode ends; returns the seconds that the step took."""
        action = self._adapter.action(*random_action(self._spec, self._mask, self._rng))
        before = time.perf_counter()
        result = self.env.step(action)
        taken = time.perf_counter() - before
        observation, reward, terminated, truncated, info = step_result(result)
        finite_reward(reward)
        over = [ended(terminated, "terminated"), ended(truncated, "truncated")]
        self.see(observation, info)
        if any(over):
            self.see(*reset_result(begin(self.env, None, self._parameters)))
        return taken


class Stepped(Protocol):
    """An env that is played by chance."""

    longest: float | None
    """The longest duration so far; None if there is none."""

    def step(self) -> float:
        """Takes one random step, and begins anew if an episode ends; returns the seconds that the step took."""


def time_steps(look: Stepped) -> Pace:
    """Returns how an env spends its time, by some random steps."""
    taken: list[float] = []
    stop = time.perf_counter() + _PROBE_SECONDS
    while len(taken) < _PROBE_STEPS and time.perf_counter() < stop:
        try:
            taken.append(look.step())
        except BaseException:
            break
    return Pace(look.longest is not None, median(taken) if taken else math.inf, look.longest or 0.0)


def _refusal(gym_env: GymEnv, env: Env | None, stage: str, error: BaseException) -> str:
    """Returns what is wrong with an env that failed at once, in few lines."""
    if isinstance(error, UserError) and not isinstance(error, WrongValue):
        return str(error)
    mistake = str(error) if isinstance(error, WrongValue) else None
    if mistake is None and env is not None and isinstance(error, (TypeError, ValueError)):
        mistake = _mistake(
            env, bool(gym_env.parameters)
        )  # Gymnasium's own wrappers fail over what a game returns, and do not say so
    return f"Environment {gym_env.id!r} {stage}: {mistake or described(error)}"


def _mistake(env: Env, parameters: bool) -> str | None:
    """Returns which layer of an env, from the inside out, has not Gymnasium's interface, and how; None if all have.

    `parameters`: whether it has to take environment parameters.
    """
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    for layer in reversed(layers):
        name = type(layer).__name__
        try:
            inspect.signature(layer.reset).bind(seed=0)
        except TypeError:
            return f"{name}.reset does not take a seed; right is reset(self, *, seed=None, options=None)"
        try:
            inspect.signature(layer.reset).bind(seed=0, options={})
        except TypeError:
            if parameters and parameters_method(env) is None:
                return (
                    f"{name}.reset takes no options, and env.parameters come as options['parameters']; right is "
                    "reset(self, *, seed=None, options=None), or a method set_parameters(parameters)"
                )
        try:
            reset_result(layer.reset(seed=0))
            step_result(layer.step(layer.action_space.sample()))
        except WrongValue as error:
            return f"{name}: {error}"
        except BaseException:  # no mistake of the interface
            return None
    return None


def random_action(spec: BehaviorSpec, mask: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns continuous and discrete actions that are drawn among those that are allowed."""
    continuous = rng.uniform(-1, 1, spec.continuous_size).astype(np.float32)
    discrete = np.zeros(len(spec.branches), np.int32)
    start = 0
    for branch, choices in enumerate(spec.branches):
        allowed = np.flatnonzero(mask[start : start + choices]) if spec.masked else np.arange(choices)
        discrete[branch] = rng.choice(allowed)
        start += choices
    return continuous, discrete
