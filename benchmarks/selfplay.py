"""`python -m benchmarks.selfplay runs/… [--bot envs.games.duel:bot]`: what self-play has learned, by matches.

Of a run that kept its checkpoints: how often the last one beats a bot that it never met, and older ones of itself; and
whether ratings of the run order its checkpoints as matches between them do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.spec import BehaviorSpec
from trainer.checkpoint import CheckpointStore
from trainer.config.saved import load_config
from trainer.evaluate.matches import Player, Tally, fitted_ratings, meet, pairs
from trainer.selfplay.players import Act, find_player

PLAYED = 8
"""How many checkpoints, evenly spread, play a tournament."""


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table, and one JSON object with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bot", default="envs.games.duel:bot")
    parser.add_argument("--matches", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found = measured(options.run, options.bot, options.matches)
    if options.json:
        print(json.dumps(found))
        return
    print(f"against {options.bot}: {found['bot']:.1%}")
    print("last against older ones: " + ", ".join(f"{name} {score:.0%}" for name, score in found["older"].items()))
    print(f"rank correlation of ratings, in the run and in a tournament: {found['rank_correlation']:.3f}")


def measured(run: Path, bot: str, matches: int) -> dict[str, Any]:
    """Returns the figures of a run."""
    saved = CheckpointStore(run / "checkpoints").all()
    last, chosen = saved[-1], [saved[i] for i in np.linspace(0, len(saved) - 1, PLAYED).astype(int)]
    older = {each.name: _played(run, str(last), str(each), matches).score for each in saved[:-1:10]}
    rated = [json.loads((each / "state.json").read_text())["self_play"]["ratings"] for each in chosen]
    ratings = [next(iter(each.values()))["rating"] for each in rated]
    names = [str(each) for each in chosen]
    tallies = {pair: _played(run, *pair, matches=max(20, matches // 2)) for pair in pairs(names)}
    true = fitted_ratings(names, tallies)
    against_bot = _played(run, str(last), bot, matches)
    return {
        "run": run.name,
        "bot": against_bot.wins / against_bot.matches,
        "bot_draws": against_bot.draws / against_bot.matches,
        "older": older,
        "ratings": ratings,
        "true_ratings": true,
        "rank_correlation": float(np.corrcoef(_ranks(ratings), _ranks(true))[0, 1]),
    }


def _played(run: Path, one: str, other: str, matches: int) -> Tally:
    config = load_config(run)
    settings = next(iter(config.behaviors.values())).self_play if config.behaviors else config.self_play

    def player(name: str, seed: int) -> Player:
        def make(spec: BehaviorSpec) -> Act:
            return find_player(name, spec, "player", seed=seed)

        return make

    both = player(one, 1), player(other, 2)
    return meet(config.env, both, matches, 3_000_000, run / "players" / "matches", settings.result)


def _ranks(values: Sequence[float]) -> Sequence[int]:
    ranks: list[int] = np.argsort(np.argsort(values)).tolist()
    return ranks


if __name__ == "__main__":
    main()
