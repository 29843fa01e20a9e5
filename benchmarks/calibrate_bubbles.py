"""Calibrates BubbleShooter's durations: `python -m benchmarks.calibrate_bubbles [--json]`.

Sixteen instances at time scale 1 should deliver what ML-Agents measured on Snoopy Pop: 14.81 samples/s when none waits
for another, so a step takes 16 / 14.81 = 1.080 s on average; 10.83 in lock-step, so the longest of 16 steps takes
1.477 s. Simulated from the games' own durations, nothing waits. The human-like bot plays, as competent as a policy that
has just mastered the level; other players show how far the rates depend on who plays.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, dataclass, replace

import numpy as np

from envs.games.bubbles.bot import FLAWLESS, HUMAN, Bot, Errors
from envs.games.bubbles.rules import Game, Level
from envs.spec import Array

INSTANCES = 16
ASYNC_RATE, LOCKSTEP_RATE = 14.81, 10.83
"""The reference's samples per second."""

PLAYERS = {"human-like": HUMAN, "flawless": FLAWLESS, "random": Errors(random_shot=1.0)}


@dataclass(frozen=True)
class Rates:
    """What one player's games say; samples per second of all instances, seconds at time scale 1."""

    bubbles: float
    """Mean of the finished games; a failed one counts the limit."""
    solved: float
    """Share of the finished games."""
    mean_seconds: float
    """Mean duration of a step."""
    round_seconds: float
    """Mean duration of the longest of the instances' steps."""

    @property
    def asynchronous(self) -> float:
        """Samples per second if no instance waits for another."""
        return INSTANCES / self.mean_seconds

    @property
    def lockstep(self) -> float:
        """Samples per second if each step waits for the longest."""
        return INSTANCES / self.round_seconds


def measure(errors: Errors, level: Level, rounds: int, seed: int = 0) -> tuple[Rates, Array]:
    """Plays `rounds` steps in each instance; the rates, and the durations (rounds, instances)."""
    durations = np.zeros((rounds, INSTANCES))
    bubbles, solved = [], []
    for instance in range(INSTANCES):
        rng = random.Random(seed * INSTANCES + instance)
        game, bot = Game(level, rng), Bot(errors, rng)
        for i in range(rounds):
            durations[i, instance] = game.duration(game.shoot(*bot.act(game)))
            if game.over:
                bubbles.append(game.used)
                solved.append(game.solved)
                game.reset()
    longest = durations.max(1).mean()
    return Rates(float(np.mean(bubbles)), float(np.mean(solved)), float(durations.mean()), float(longest)), durations


def fit(level: Level, rounds: int) -> tuple[float, float]:
    """`base_seconds` and `noise_seconds` with which the human-like bot's games give the reference's two rates."""
    _, durations = measure(HUMAN, replace(level, base_seconds=0.0, noise_seconds=0.0), rounds)
    uniform = np.random.default_rng(0).random((20, *durations.shape))
    low, high = 0.0, 2.0
    while high - low > 1e-4:
        noise = (low + high) / 2
        base = INSTANCES / ASYNC_RATE - float(durations.mean()) - noise / 2
        longest = (base + durations + noise * uniform).max(-1).mean()
        low, high = (low, noise) if longest > INSTANCES / LOCKSTEP_RATE else (noise, high)
    return base, noise


def main() -> None:
    """Prints the table, or with --json one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1000, help="steps of each instance (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    level = Level()
    rates = {name: measure(errors, level, arguments.rounds)[0] for name, errors in PLAYERS.items()}
    base, noise = fit(level, arguments.rounds)
    if arguments.json:
        report: dict[str, object] = {
            name: {**asdict(r), "async": r.asynchronous, "lockstep": r.lockstep} for name, r in rates.items()
        }
        report["reference"] = {"async": ASYNC_RATE, "lockstep": LOCKSTEP_RATE}
        report["fit"] = {"base_seconds": base, "noise_seconds": noise}
        print(json.dumps(report))
        return
    head = f"{INSTANCES} instances, time scale 1"
    print(f"{head:27s}  bubbles  solved  mean step  longest of {INSTANCES}   async  lock-step")
    for name, r in rates.items():
        print(
            f"{name:27s}  {r.bubbles:7.1f}  {r.solved:6.0%}  {r.mean_seconds:7.3f} s  {r.round_seconds:11.3f} s"
            f"  {r.asynchronous:6.2f}  {r.lockstep:9.2f}"
        )
    print(f"{'reference':27s}  {'':37s}{'':7s}{ASYNC_RATE:6.2f}  {LOCKSTEP_RATE:9.2f}")
    print(
        f"the level has base_seconds={level.base_seconds}, noise_seconds={level.noise_seconds}; "
        f"the human-like bot alone would ask for {base:.3f} and {noise:.3f}"
    )


if __name__ == "__main__":
    main()
