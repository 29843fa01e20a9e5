"""What `defaults.py` has every contender learn, within how many samples, and what counts as learned. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.zoo_settings import ZOO

POINTS = 10
"""Evaluations of a run, evenly over its samples; the last one is at its end."""
EPISODES = 20
"""Of an evaluation."""
FAMILIES = ("ppo", "sac")
"""What is compared: PPO with PPO, and our SAC with their SAC, or with their DQN where actions are discrete."""
SIDES = ("ours", "sb3", "zoo")
"""Our defaults, Stable-Baselines3's defaults, and Stable-Baselines3 with the settings that its RL Zoo has tuned."""
CONTENDERS = tuple(f"{side}-{family}" for family in FAMILIES for side in SIDES)
TUNING_SEEDS = 100
"""Seeds from here on are for choosing defaults; the table takes only lower ones."""
_OURS = "benchmarks.defaults_envs:"


@dataclass(frozen=True)
class Budget:
    """What one family has for a task."""

    samples: int
    mark: float | None
    """Mean return that counts as learned; None = the result is shown and not judged."""


@dataclass(frozen=True)
class DefaultsTask:
    """An environment, and the figures that returns are measured by."""

    id: str
    """As `env.id` takes it."""
    continuous: bool
    random: float
    """Mean return of 200 episodes of uniform random actions, at seeds from 5,000,000 on."""
    ppo: Budget
    sac: Budget
    seeds: int
    """How many the table has."""
    scale: float
    """The return that scores 1 where there is no mark."""
    like: str | None = None
    """The task of which this one is the same game in other units."""

    def budget(self, family: str) -> Budget:
        """Returns that of `ppo` or `sac`."""
        return self.ppo if family == "ppo" else self.sac

    def score(self, family: str, mean_return: float) -> float:
        """Returns 0 for a random policy's return and 1 for the mark; not cut off."""
        mark = self.budget(family).mark
        return (mean_return - self.random) / ((self.scale if mark is None else mark) - self.random)

    @property
    def in_own_units(self) -> dict[str, float]:
        """Keyword arguments of the environment with which rewards are the game's own."""
        return {"reward": 1.0} if self.like else {}


def algorithm_of(contender: str, task: str) -> str:
    """Returns `ppo`, `sac` or `dqn`."""
    side, family = contender.split("-")
    return "dqn" if side != "ours" and family == "sac" and not TASKS[task].continuous else family


def takes_part(contender: str, task: str) -> bool:
    """Whether there is such a run: the Zoo has not tuned every task."""
    return not contender.startswith("zoo") or (algorithm_of(contender, task), task) in ZOO


def expected_rate(contender: str, task: str) -> float:
    """Returns samples a second on one core, about: `RATES`, or those of the game that a task is in other units."""
    return RATES[contender].get(TASKS[task].like or task, 1000.0 if contender.endswith("ppo") else 200.0)


def _task(name: str, continuous: bool, random: float, ppo: Budget, sac: Budget, seeds: int) -> DefaultsTask:
    module = _OURS if name.startswith(("MinAtar", "AcrobotNips")) else ""
    return DefaultsTask(module + name, continuous, random, ppo, sac, seeds, ppo.mark or 90.0)


_PLAIN = {
    "CartPole-v1": (False, 22.3, Budget(50_000, 475), Budget(30_000, 475), 5),
    "Acrobot-v1": (False, -499.0, Budget(100_000, -90), Budget(50_000, -100), 5),
    "Pendulum-v1": (True, -1217.0, Budget(200_000, -250), Budget(10_000, -200), 5),
    "LunarLanderContinuous-v3": (True, -209.0, Budget(500_000, 200), Budget(100_000, 200), 3),
    "Hopper-v5": (True, 17.7, Budget(500_000, 1500), Budget(100_000, 1200), 3),
    "MinAtarBreakout-v1": (False, 0.36, Budget(500_000, 4), Budget(100_000, 4), 3),
    "LunarLander-v3": (False, -180.0, Budget(500_000, 200), Budget(150_000, 200), 1),
    "BipedalWalker-v3": (True, -101.0, Budget(1_000_000, 200), Budget(300_000, 250), 1),
    "HalfCheetah-v5": (True, -279.0, Budget(1_000_000, 2000), Budget(200_000, 4500), 1),
    "MinAtarSpaceInvaders-v1": (False, 3.8, Budget(500_000, 25), Budget(100_000, 20), 1),
    "MountainCarContinuous-v0": (True, -33.2, Budget(100_000, None), Budget(50_000, None), 1),
}
_UNITS = ("RewardsHundredth", "RewardsHundredfold", "RewardsTenThousandfold", "Observations")
TASKS = {name: _task(name, *figures) for name, figures in _PLAIN.items()}
"""By the name that the command line and the table give them."""
for _base in ("CartPole-v1", "Pendulum-v1"):
    for _unit in _UNITS:
        _name = _base.replace("-", f"{_unit}-")
        TASKS[_name] = DefaultsTask(**{**vars(TASKS[_base]), "id": _OURS + _name, "like": _base})
_TUNING = {
    "AcrobotNips-v1": (False, -483.0, Budget(200_000, -90), Budget(50_000, -100), 0),
    "InvertedDoublePendulum-v5": (True, 46.2, Budget(200_000, 9000), Budget(30_000, 9000), 0),
    "MinAtarAsterix-v1": (False, 0.42, Budget(400_000, 4), Budget(100_000, 4), 0),
    "Walker2d-v5": (True, 1.2, Budget(400_000, 2000), Budget(100_000, 2000), 0),
}
"""Tasks on which defaults are chosen, and that no table uses."""
TASKS |= {name: _task(name, *figures) for name, figures in _TUNING.items()}
CORE = list(_PLAIN)[:6]
SCALE = [name for name, task in TASKS.items() if task.like]
TIERS = {
    "core": CORE,
    "rest": [name for name in _PLAIN if name not in CORE],
    "scale": SCALE,
    "tuning": list(_TUNING),
    "all": [*_PLAIN, *SCALE],
}
RATES: dict[str, dict[str, float]] = {
    "ours-ppo": dict.fromkeys(_PLAIN, 2000.0),
    "sb3-ppo": dict.fromkeys(_PLAIN, 1000.0),
    "zoo-ppo": {
        **dict.fromkeys(_PLAIN, 2000.0),
        "CartPole-v1": 5000.0,
        "Hopper-v5": 600.0,
        "HalfCheetah-v5": 300.0,
        "MountainCarContinuous-v0": 500.0,
    },
    "ours-sac": dict.fromkeys(_PLAIN, 200.0),
    "sb3-sac": {name: 100.0 if continuous else 900.0 for name, (continuous, *_) in _PLAIN.items()},
    "zoo-sac": {name: 80.0 if continuous else 400.0 for name, (continuous, *_) in _PLAIN.items()},
}
"""By contender and task: samples a second of training on one core.

Rough ones, from trials of a few thousand samples on cores that others kept busy. `--plan` needs them only until there
are runs, whose own times it then takes; ours saves more or less often by them.
"""
