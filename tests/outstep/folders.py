"""A folder of a user's own, with names that are ours as well."""

from pathlib import Path

CASTLE = """
import gymnasium
from .maze import SIZE


class Castle(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (SIZE,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.low, {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.low, float(action), self.steps > 5, False, {}


class Wrapper(gymnasium.Wrapper):
    pass


gymnasium.register("Castle-v0", entry_point=Castle)
"""
INIT = """
import gymnasium
from .castle import Castle

spec, HEIGHT = "theirs", 3
gymnasium.register("Keep-v0", entry_point="envs.castle:Castle")
"""
NOT_OURS = "raise SystemExit('the wrong file runs')\n"


def make_folder(folder: Path, *namesakes: str) -> Path:
    """Returns `folder`, which holds `envs/`, a network and an algorithm's folder, and files that must never run."""
    files = {
        "envs/__init__.py": INIT,
        "envs/castle.py": CASTLE,
        "envs/maze.py": "SIZE = 3\n",
        "tools.py": "from envs import HEIGHT\nfrom envs.maze import SIZE\nbot = lambda env, rng: lambda seen: 1\n",
        "algorithms/notes.py": "TEXT = 'mine'\n",
        "buffers/__init__.py": NOT_OURS,
        "conf/config.yaml": "nonsense: true\n",
        "conf/experiment/castle.yaml": "# @package _global_\nenv: {id: ./envs/castle.py:Castle-v0}\n",
        **dict.fromkeys(namesakes, NOT_OURS),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
