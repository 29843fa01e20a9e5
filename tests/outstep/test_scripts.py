"""Programs that train, as users write them: with and without a main guard, from a file and from a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import gymnasium
import outstep

print("runs")
longest = 5


class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(9)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.at, {}

    def step(self, action):
        self.at += 1
        return self.at, 1.0, self.at == longest, False, {}


gymnasium.register("Mine-v0", "__main__:Mine")


def train(env):
    run = outstep.train(
        "algorithm.rollout_size=32", "algorithm.minibatch_size=32", "algorithm.network.hidden=[8]", "device=cpu",
        "algorithm.buffer_memory_mib=8", "run.picture_minutes=0", "env.instances=1", "run.dir=run", "run.mode=MODE",
        env=env, stop={"samples": 40}, verbose=False,
    )
    print(run.summary["samples"], run.policy().predict(3)[0] in (0, 1))


GUARD
"""


def program(call: str, mode: str = "inline") -> str:
    return PROGRAM.replace("GUARD", call).replace("MODE", mode)


def done(folder: Path, *words: str, **options) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, **options)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.parametrize(
    "call", ["train(Mine)", 'if __name__ == "__main__":\n    train(lambda: Mine())', 'train("Mine-v0")']
)
def test_a_script_trains_once_with_or_without_a_main_guard(tmp_path, call):
    (tmp_path / "script.py").write_text(program(call))
    assert done(tmp_path, "script.py") == "runs\n40 True\n"


def test_a_program_from_a_pipe_trains_in_processes_of_its_own(tmp_path):
    assert done(tmp_path, "-", input=program("train(Mine)", "async")) == "runs\n40 True\n"
