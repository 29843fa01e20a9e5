"""`python -m benchmarks.score_theirs --task ppo_cartpole --seed 0`: Stable-Baselines3's side of `time_to_score.py`.

Learns until the score, the task's samples or its limit, and prints one line when the score is reached. It imports
nothing of ours but the tasks, so its start-up is its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from benchmarks.score_tasks import TASKS, ScoreTask


class Window:
    """The mean reward of the episodes that ended in the last samples, as `trainer.telemetry.goal` reckons it."""

    def __init__(self, samples: int, score: float) -> None:
        self._samples, self._score = samples, score
        self._episodes: deque[tuple[int, float]] = deque()
        self._total = 0.0

    def reached(self, samples: int, reward: float) -> bool:
        """Takes in an episode that ended after so many samples; whether the mean is the score or above it now."""
        self._episodes.append((samples, reward))
        self._total += reward
        while self._episodes[0][0] <= samples - self._samples:
            self._total -= self._episodes.popleft()[1]
        return samples >= self._samples and self._total / len(self._episodes) >= self._score


def main(argv: list[str] | None = None) -> int:
    """Learns one task with one seed."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser("python -m benchmarks.score_theirs", description="Stable-Baselines3's side.")
    parser.add_argument("--task", choices=TASKS, required=True, help="what is learned")
    parser.add_argument("--seed", type=int, default=0, help="of everything (0)")
    options = parser.parse_args(argv)
    learn(TASKS[options.task], options.seed, began)
    return 0


def learn(task: ScoreTask, seed: int, began: float = float("inf")) -> None:
    """Learns until an end; `began` is when the limit's seconds did."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    class UntilScore(BaseCallback):  # type: ignore[misc,unused-ignore]
        """Ends at the score or the limit."""

        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info and window.reached(self.num_timesteps, info["episode"]["r"]):
                    print(f"reached after {self.num_timesteps} samples", flush=True)
                    return False
            return time.perf_counter() - began < task.limit

    torch.set_num_threads(1)
    window = Window(task.window, task.score)
    subproc = task.theirs.vector == "subproc"
    env = make_vec_env(task.id, task.instances, seed, vec_env_cls=SubprocVecEnv if subproc else DummyVecEnv)
    made = getattr(stable_baselines3, task.algorithm.upper())
    model = made("MlpPolicy", env, seed=seed, device="cpu", **_arguments(task))
    model.learn(task.theirs.samples, callback=UntilScore())
    env.close()


def _arguments(task: ScoreTask) -> dict[str, Any]:
    settings = dict(task.theirs.settings)
    return {**settings, **{name: _falling(settings[name]) for name in task.theirs.falling}}


def _falling(initial: float) -> Callable[[float], float]:
    return lambda left: initial * left


if __name__ == "__main__":
    sys.exit(main())
