"""`outstep evaluate run=a against=b`, and tournaments of all runs in a folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.config import EnvConfig
from envs.process.whole_files import write_whole
from envs.spec import BehaviorSpec, UserError
from trainer.config.saved import load_config
from trainer.config.schema import EvaluateConfig, TrainConfig
from trainer.evaluate.matches import Player, Tally, fitted_ratings, meet, pairs
from trainer.evaluate.results import share_interval
from trainer.selfplay.players import Act, check_player, find_player, is_bot, run_of

TOURNAMENT = "tournament.json"


def contestants(folder: str) -> list[str]:
    """Returns the runs in a folder that have learned something, or the checkpoints.

    None where the folder is a run itself, or is not there.
    """
    path = Path(folder)
    if not folder or (path / "config.yaml").exists() or not path.is_dir():
        return []
    runs = [each.parent for pattern in ("*", "*/*") for each in path.glob(f"{pattern}/config.yaml")]
    runs = [run for run in runs if any(run.glob("checkpoints/*/manifest.json"))]
    found = runs or [each.parent for each in path.glob("*/manifest.json") if not each.parent.name.startswith(".")]
    return [str(each) for each in sorted(found)]


def check(config: EvaluateConfig) -> None:
    """Refuses players that cannot be loaded, and an environment that cannot be played, by a UserError."""
    names = contestants(config.run)
    if config.video:
        raise UserError("video=true: matches are not filmed, leave it out")
    if names and config.against is not None:
        raise UserError(f"run={config.run} holds {len(names)} runs, which play a tournament: leave against out")
    if len(names) == 1:
        raise UserError(f"run={config.run} holds one run alone: name it, and who it plays with against=")
    for name in names or [config.run]:
        check_player(name, "run", config.trust)
    if config.against is not None:
        check_player(config.against, "against", config.trust)
    env, _ = _game(config, (names or [config.run])[0])
    env.for_evaluation(min(config.episodes, env.instances)).check()


def evaluate_matches(config: EvaluateConfig) -> int:
    """Plays what is asked for, prints how it ended and writes it; returns the exit status."""
    names = contestants(config.run)
    if names:
        return _tournament(config, names)
    assert config.against is not None  # noqa: S101
    tally = _play(config, config.run, config.against)
    print(f"{config.run} against {config.against}: {tally.matches} matches")
    for line in described(tally):
        print(line)
    file = Path(run_of(config.run)) / "evaluation" / "against" / f"{_slug(config)}.json"
    _write(file, {"run": config.run, "against": config.against, **_asked(config), **figures(tally)})
    return 0


def described(tally: Tally) -> list[str]:
    """Returns in lines how matches ended."""
    low, high = tally.interval
    difference, least, most = map(_points, tally.rating_difference)
    return [
        f"{'wins':>10}  {tally.wins}  draws {tally.draws}  losses {tally.losses}",
        f"{'score':>10}  {tally.score:.1%} (95 %: {low:.1%} to {high:.1%})",
        f"{'rating':>10}  {difference} (95 %: {least} to {most})",
    ]


def figures(tally: Tally) -> dict[str, Any]:
    """Returns how matches ended, as JSON can hold it; null is infinite."""
    difference = [each if math.isfinite(each) else None for each in tally.rating_difference]
    counts = {"matches": tally.matches, "wins": tally.wins, "draws": tally.draws, "losses": tally.losses}
    intervals = {"score_interval": list(tally.interval), "rating_difference_interval": difference[1:]}
    return {**counts, "score": tally.score, "rating_difference": difference[0], **intervals}


def _tournament(config: EvaluateConfig, names: list[str]) -> int:
    tallies: dict[tuple[str, str], Tally] = {}
    for one, other in pairs(names):
        tallies[one, other] = tally = _play(config, one, other)
        print(f"{_short(config, one)} against {_short(config, other)}: {tally.wins} to {tally.losses}", flush=True)
    ratings = dict(zip(names, fitted_ratings(names, tallies)))
    width = max(len(_short(config, name)) for name in names)
    table = []
    print(f"{'':>{width}}  rating  score")
    for name in sorted(names, key=ratings.__getitem__, reverse=True):
        won, played = _score(name, tallies)
        low, high = share_interval(won, played)
        print(f"{_short(config, name):>{width}}  {ratings[name]:6.0f}  {won / played:.1%} ({low:.1%} to {high:.1%})")
        table.append({"run": name, "rating": ratings[name], "score": won / played, "matches": played})
    of_pairs = [{"run": one, "against": other, **figures(tally)} for (one, other), tally in tallies.items()]
    _write(Path(config.run) / TOURNAMENT, {**_asked(config), "table": table, "matches": of_pairs})
    return 0


def _score(name: str, tallies: Mapping[tuple[str, str], Tally]) -> tuple[float, int]:
    won, played = 0.0, 0
    for (one, other), tally in tallies.items():
        if name in (one, other):
            won += tally.matches * (tally.score if name == one else 1 - tally.score)
            played += tally.matches
    return won, played


def _play(config: EvaluateConfig, one: str, other: str) -> Tally:
    env, saved = _game(config, one)
    logs = Path(run_of(one)) / "players" / "evaluation"
    players = _player(config, one, "run", 0), _player(config, other, "against", 1)
    return meet(env, players, config.episodes, config.seed, logs, _result(saved))


def _game(config: EvaluateConfig, run: str) -> tuple[EnvConfig, TrainConfig]:
    saved = load_config(run_of(run), config.trust)
    return config.env or saved.env, saved


def _player(config: EvaluateConfig, name: str, key: str, place: int) -> Player:
    def make(spec: BehaviorSpec) -> Act:
        return find_player(
            name,
            spec,
            key,
            seed=config.seed + place,
            trust=config.trust,
            deterministic=config.deterministic,
            which=config.checkpoint,
        )

    return make


def _result(saved: TrainConfig) -> str:
    """Returns what decides a match, by the settings of the run that plays."""
    chosen = [each.self_play for each in saved.behaviors.values()] or [saved.self_play]
    result: str = chosen[0].result
    return result


def _asked(config: EvaluateConfig) -> dict[str, Any]:
    return {"checkpoint": config.checkpoint.name, "deterministic": config.deterministic, "seed": config.seed}


def _slug(config: EvaluateConfig) -> str:
    against = str(config.against)
    name = against if is_bot(against) else str(Path(against).absolute())
    return re.sub(r"[^\w.-]+", "-", f"{config.checkpoint.name}-{name}").strip("-")[-150:]


def _short(config: EvaluateConfig, name: str) -> str:
    return str(Path(name).relative_to(config.run))


def _points(difference: float) -> str:
    return f"{difference:+.0f}" if math.isfinite(difference) else ("+" if difference > 0 else "-") + "infinite"


def _write(file: Path, content: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, f"{json.dumps(content, indent=2)}\n".encode())
    except OSError as error:
        raise UserError(f"the results cannot be written to {file} ({error.strerror})") from error
    print(f"{file}")
