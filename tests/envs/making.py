"""Managers of few words: settings and what a run asks for in one call."""

import os
import shlex
import time
from pathlib import Path

import psutil

from envs.api import Setup
from envs.gym.config import GymConfig
from envs.gym.manager import EnvManager
from envs.unity.config import UnityConfig
from envs.unity.manager import UnityManager

SETUP = ("min_instances", "begun", "record_actions", "resume", "lessons")


def _manager(kind, config, seed, logs, more):
    asked = {key: more.pop(key) for key in SETUP if key in more}
    return kind(config(**more), Setup(seed, logs, **asked))


def gym_manager(env, instances, seed, **more):
    """An `EnvManager` of a `GymEnv`; `more` are settings and fields of `Setup`."""
    made = {"id": env.id, "kwargs": dict(env.kwargs), "wrappers": list(env.wrappers), "time_scale": env.time_scale}
    return _manager(EnvManager, GymConfig, seed, Path(), {**made, "instances": instances, **more})


def unity_manager(logs, instances=1, words=None, **more):
    """A `UnityManager` of our own players with these words, else of the Editor; `more` as for `gym_manager`."""
    player = None if words is None else shlex.join(words)
    return _manager(UnityManager, UnityConfig, 0, logs, {"player": player, "instances": instances, **more})


def alive(pid, patience=1000):
    """Whether a process is still there after so many looks: it may take a moment to end."""
    for _ in range(patience):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.01)
    os.kill(pid, 9)
    return True
