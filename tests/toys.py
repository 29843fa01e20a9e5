"""Toy environments for tests, registered so that spawned workers find them: `tests.toys:Oracle-v0`, ..."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


def oracle_length(seed: int) -> int:
    """Steps of the oracle's episode with this seed."""
    return 1 + seed % 13


def oracle_truncates(seed: int) -> bool:
    """Whether that episode is cut off rather than over."""
    return seed // 13 % 2 == 0


class Oracle(gymnasium.Env):
    """Says in its observation which episode (by its seed) and step it is in, and what the last action was.

    Observation: [seed // 65536, seed % 65536, step, last action]. Reward: 100 * step + action. An episode ends after
    `oracle_length` steps, or `length`, truncated by `oracle_truncates`. Reports `steps` at the end.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own form
    observation_space = spaces.Box(-1, 65536, (4,), np.float32)
    action_space = spaces.Discrete(5)

    def __init__(self, duration=None, length=None, render_mode=None):
        self.duration, self.length, self.render_mode = duration, length, render_mode
        self.last = -1

    def reset(self, *, seed=None, options=None):
        self.seed, self.at, self.last = seed or 0, 0, -1
        return self._observation(), self._info()

    def step(self, action):
        self.at += 1
        self.last = int(action)
        over = self.at >= (self.length or oracle_length(self.seed))
        cut = oracle_truncates(self.seed)
        info = self._info()
        if over:
            info |= {"steps": self.at, "name": "not a number", "flag": np.bool_(True)}
        return self._observation(), 100 * self.at + self.last, over and not cut, over and cut, info

    def render(self):
        return np.full((4, 6, 3), (self.at, self.last + 1, 7), np.uint8)

    def _observation(self):
        return np.array([self.seed >> 16, self.seed & 0xFFFF, self.at, self.last], np.float32)

    def _info(self):
        return {} if self.duration is None else {"duration": self.duration}


class Noise(gymnasium.Env):
    """Shows numbers that mean nothing and, if asked, a `camera` that sees nothing; pays by chance. Ten steps each."""

    action_space = spaces.Discrete(3)

    def __init__(self, camera=False):
        seen = {"numbers": spaces.Box(-1, 1, (2,), np.float32)}
        if camera:
            seen["camera"] = spaces.Box(0, 255, (4, 4, 1), np.uint8)
        self.observation_space = spaces.Dict(seen)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self._observation(), {}

    def step(self, action):
        self.at += 1
        return self._observation(), float(self.np_random.normal()), self.at == 10, False, {}

    def _observation(self):
        seen = {"numbers": self.np_random.uniform(-1, 1, 2).astype(np.float32)}
        if "camera" in self.observation_space.spaces:
            seen["camera"] = np.full((4, 4, 1), 128, np.uint8)
        return seen


class Faulty(Oracle):
    """An oracle in which action 4 sets off a `fault` (step, reset, kill, stop, hang); `make` and `always` need none.

    The first `spare` steps are spared, and all of a probe's unless `spare_probe` is false.
    """

    def __init__(self, fault="step", spare_probe=True, spare=0, **kwargs):
        super().__init__(**kwargs)
        self.fault, self.spare = fault, spare
        self.spared = spare_probe and multiprocessing.current_process().name == "probe"
        if fault == "make":
            raise RuntimeError("no licence for this game")

    def reset(self, *, seed=None, options=None):
        if self.fault == "always" or (self.fault == "reset" and self.last == 4 and not self.spared):
            raise RuntimeError("the level is missing")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.spare -= 1
        if action == 4 and not self.spared and self.spare < 0:
            if self.fault == "step":
                raise RuntimeError("the game has crashed")
            if self.fault == "kill":
                os._exit(7)
            if self.fault == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.fault == "hang":
                time.sleep(3600)
        return super().step(action)


class Paced(Oracle):
    """An oracle whose action picks the duration of its step; resets have none."""

    seconds = (1.0, 2.0, 3.0, 100.0, float("nan"))

    def _info(self):
        return {"duration": self.seconds[self.last]} if self.at else {}


class Unpicturable(Oracle):
    """Claims that it can render, and cannot."""

    def render(self):
        raise RuntimeError("no display")


class Undrawable(Oracle):
    """Its process is killed by what it draws with."""

    def render(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Telltale(Oracle):
    """Its observation: whether torch has been imported into its process, and the number of the process."""

    def _observation(self):
        return np.array(["torch" in sys.modules, os.getpid(), self.at, 0], np.float32)


class Mixed(gymnasium.Env):
    """Dict and Tuple spaces, nested, and an action mask over the discrete parts."""

    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (2, 3), np.uint8),
        cards=spaces.Tuple((spaces.Discrete(3, start=-1), spaces.MultiBinary(2))),
    )
    action_space = spaces.Dict(
        aim=spaces.Box(np.float32([0, -2]), np.float32([1, 2])),
        pick=spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2))),
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), self._info()

    def step(self, action):
        assert self.action_space.contains(action), action
        assert self.allowed[action["pick"][0] - 1]
        return self._observation(), float(action["aim"][1]), False, False, self._info()

    def _observation(self):
        return self.observation_space.sample()

    def _info(self):
        self.allowed = np.array([True, False, True])
        self.allowed[self.np_random.integers(2) * 2] = False
        return {"action_mask": (self.allowed, np.ones(2, bool), np.ones(2, bool))}


class Wordy(Oracle):
    """Observes text, which no policy reads."""

    observation_space = spaces.Text(9)


def never_wraps(env):
    """A function, and no wrapper."""
    return env


class Unchanged(gymnasium.Wrapper):
    """A wrapper that does nothing."""


class MovesAway(gymnasium.Wrapper):
    """A wrapper that changes the current folder, as envs do that look for their files."""

    def __init__(self, env):
        super().__init__(env)
        os.chdir(Path(__file__).parent)


class AddSteps(gymnasium.RewardWrapper):
    """Adds `bonus` to every reward."""

    def __init__(self, env, bonus=0.0):
        super().__init__(env)
        self.bonus = bonus

    def reward(self, reward):
        return reward + self.bonus


class Flags(gymnasium.ObservationWrapper):
    """Observes three bytes instead."""

    observation_space = spaces.MultiBinary(3)

    def observation(self, observation):
        return np.zeros(3, np.int8)


class Asleep(Oracle):
    """An oracle that takes an hour to make, but for a first look."""

    def __init__(self):
        super().__init__()
        if multiprocessing.current_process().name != "probe":
            time.sleep(3600)


class Camera(gymnasium.Env):
    """Images of any shape and type; episodes of three steps."""

    def __init__(self, shape, dtype="uint8", high=255):
        self.observation_space = spaces.Box(0, high, tuple(shape), np.dtype(dtype))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def step(self, action):
        self.steps += 1
        return self.seen(), float(action), self.steps == 3, False, {}

    def seen(self):
        return np.full(self.observation_space.shape, self.steps, self.observation_space.dtype)


class Odd(Oracle):
    """An oracle in whose episodes of odd seeds a number is none: `where` says which, `value` what it is instead."""

    def __init__(self, where="reward", value="nan", **kwargs):
        super().__init__(**kwargs)
        self.where, self.value = where, float(value)
        self.spared = multiprocessing.current_process().name == "probe"

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        if self.seed % 2 and not self.spared and self.where == "reset":
            observation[2] = self.value
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.seed % 2 and not self.spared:
            over = terminated or truncated
            if self.where == "observation" and not over:
                observation[1] = self.value
            if self.where == "final" and truncated:
                observation[3] = self.value
            if self.where == "reward":
                reward = self.value
            if self.where == "metrics" and over:
                info["steps"] = self.value
            if self.where == "duration":
                info["duration"] = self.value
        return observation, reward, terminated, truncated, info


class Nameless(Exception):
    """Has no text."""

    def __str__(self):
        raise RuntimeError("no text")


class Mistaken(gymnasium.Env):
    """Has one `mistake` of its interface or its values."""

    observation_space = spaces.Dict(speed=spaces.Box(-1, 1, (2,)), gear=spaces.Discrete(3))
    action_space = spaces.Discrete(2)

    def __init__(self, mistake, space=None):
        self.mistake = mistake
        if space is not None:
            self.observation_space = spaces.Text(3) if space == "text" else None
        if mistake == "seed":
            self.reset = lambda: (self.seen(), {})

    def reset(self, *, seed=None, options=None):
        self.observation_space = Mistaken.observation_space
        info = {"action_mask": [1, 1]} if self.mistake == "mask" else {}
        return self.seen() if self.mistake == "reset" else (self.seen(), None if self.mistake == "no info" else info)

    def step(self, action):
        if self.mistake == "step":
            return self.seen(), 1.0, False, {}
        if self.mistake == "exit":
            sys.exit("bye")
        if self.mistake == "interrupt":
            raise KeyboardInterrupt("from the game")
        if self.mistake == "nameless":
            raise Nameless
        reward = {"none": None, "text": "1.0", "several": np.ones(2), "nan": np.nan}.get(self.mistake, np.ones(1))
        info = {"duration": {"duration": "3 minutes"}, "mask": {"action_mask": "all"}}.get(self.mistake, {})
        return self.seen(), reward, "no" if self.mistake == "terminated" else False, False, info

    def seen(self):
        seen = {"speed": np.zeros(2, np.float32), "gear": 3 if self.mistake == "gear" else 1}
        if self.mistake == "key":
            del seen["gear"]
        return seen


class Parent(Oracle):
    """Starts two processes that outlive all: one bears the mark of the run, and one is in the session of its parent.

    Without `unmarked` only the first of them. Writes their numbers into the folder `pids`. Action 4 hangs. `close`
    takes `wait` seconds, ends none of them, and leaves a file that says so.
    """

    def __init__(self, pids, wait=0.0, unmarked=True):
        super().__init__()
        self.pids, self.wait = Path(pids), wait
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTSTEP")}
        for options in ({"start_new_session": True}, {"env": kept})[: 1 + unmarked]:
            game = subprocess.Popen(sleep, **options)
            (self.pids / str(game.pid)).touch()

    def step(self, action):
        if action == 4 and multiprocessing.current_process().name != "probe":
            time.sleep(3600)
        return super().step(action)

    def close(self):
        time.sleep(self.wait)
        (self.pids / f"closed {os.getpid()}").touch()


class Graded(gymnasium.Env):
    """Shows its parameters `level` and `wind`, and ends after two steps that earn 1 / level, with `passed` = level."""

    observation_space = spaces.Box(-100, 100, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self._begin((options or {}).get("parameters", {}))
        return self._observation(), {}

    def step(self, action):
        self.at += 1
        over = self.at == 2
        return self._observation(), over / self.level, over, False, {"passed": self.level} if over else {}

    def _begin(self, parameters):
        self.at, self.level, self.wind = 0, parameters.get("level", 1), parameters.get("wind", 0)
        if self.level > 50:
            raise ValueError(f"there is no level {self.level}")

    def _observation(self):
        return np.array([self.level, self.wind], np.float32)


class Told(Graded):
    """The same, whose parameters come to a method of its own."""

    def reset(self, *, seed=None, options=None):
        assert options is None
        return self._observation(), {}

    def set_parameters(self, parameters):
        self._begin(parameters)


class Deaf(Graded):
    """The same, which takes no parameters in any way."""

    def reset(self, *, seed=None):
        self._begin({})
        return self._observation(), {}


for _kind in (
    Graded,
    Told,
    Mistaken,
    Parent,
    Oracle,
    Noise,
    Faulty,
    Paced,
    Unpicturable,
    Undrawable,
    Telltale,
    Mixed,
    Wordy,
    Camera,
    Odd,
    Asleep,
):
    gymnasium.register(f"{_kind.__name__}-v0", entry_point=f"tests.toys:{_kind.__name__}")
