"""`python -m benchmarks.snoopy_ladder --seeds 3 --json`: the reference's five rungs, each run to mastery of the level.

All rungs run with seed 0, then all with seed 1, and so on: a machine that drifts slows all alike. A run lies in
`<folder>/<rung>-<seed>`. Whoever interrupts the ladder and calls it again loses the run in hand only: runs that are
there are not made again, and further seeds of a rung that lie there are reported too. What is made of them all stands
in `ladder_report.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.ladder_picture import draw
from benchmarks.ladder_report import RUNGS, Run, claims, rung_figures, text
from benchmarks.report import machine
from benchmarks.training import record, train
from envs.spec import UserError
from trainer.config.compose import compose, load_config
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train

TUNING = {
    "snoopy_ppo_lockstep": "that of snoopy_ppo",
    "snoopy_ppo": "10 settings, one or two seeds each: rollout, minibatch, rate, discount, entropy",
    "snoopy_ppo_gail": "10 settings of cloning and GAIL, two seeds each, on those of snoopy_ppo",
    "snoopy_sac": "12 settings, one or two seeds each: n-step, discount, temperature, updates, rate, first samples",
    "snoopy_sac_gail": "12 settings of cloning, GAIL and share of each batch, two seeds each, on those of snoopy_sac",
}
"""What was tried on each rung before its settings were fixed; figures in benchmarks/results/ladder_study.md."""
PLAY_THROUGHS = 21
SEED = 9
"""Of the bot's boards, which are not those of training. Chosen among ten, whose 21 games need 22.7 to 32.7 bubbles, as
the one that lies nearest to the human figure: 24.95."""
_OWN = {
    "experiment": "--rungs",
    "seed": "--seeds",
    "run.dir": "--folder",
    "env.time_scale": "--time-scale",
    "stop.seconds": "--cap-seconds",
}
"""Keys that only the ladder sets, and the options for them."""


@dataclass(frozen=True)
class Ladder:
    """What is to be run, and where it is kept."""

    rungs: tuple[str, ...]
    seeds: int
    folder: Path
    time_scale: float
    cap_seconds: float
    """A run that has not mastered the level by then is given up."""
    overrides: tuple[str, ...]
    """Further ones, of every rung."""

    @property
    def demos(self) -> Path:
        """The demonstrations that all rungs share."""
        return self.folder / "level25.demo"

    def place(self, rung: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / f"{rung}-{seed}"

    def command(self, rung: str, seed: int) -> list[str]:
        """The run's overrides, of `python -m trainer`."""
        return [
            f"+experiment={rung}",
            f"seed={seed}",
            f"env.time_scale={self.time_scale}",
            f"stop.seconds={self.cap_seconds}",
            "run.picture_minutes=0",
            "checkpoint.replay=false",
            "checkpoint.every_seconds=1e6",
            *(f"{key}={self.demos}" for key in demo_keys(rung, self.overrides)),
            *self.overrides,
        ]

    def imitates(self, rung: str) -> bool:
        """Whether the rung asks for demonstrations."""
        return bool(demo_keys(rung, self.overrides))

    def finished(self, rung: str) -> list[int]:
        """Seeds whose run is there, whole: those asked for, and any that follow on them."""
        seeds = [seed for seed in range(self.seeds) if self._is_whole(rung, seed)]
        further = self.seeds
        while self._is_whole(rung, further):
            seeds.append(further)
            further += 1
        return seeds

    def _is_whole(self, rung: str, seed: int) -> bool:
        return (self.place(rung, seed) / "ladder.json").is_file()


def main(argv: list[str] | None = None) -> int:
    """Runs what is missing and prints tables, or one JSON object.

    Returns:
        0; 1 if a run failed and 130 after Ctrl+C, with what is there so far; 2 for bad input.
    """
    status = 0
    try:
        options = _options(argv)
        rungs = tuple(name for name in RUNGS if name in options.rungs)
        folder = options.folder.expanduser().resolve()
        ladder = Ladder(rungs, options.seeds, folder, options.time_scale, options.cap_seconds, tuple(options.overrides))
        try:
            climb(ladder)
        except KeyboardInterrupt:
            status = 130
        except RuntimeError as error:
            _say(f"{error}; the next call begins with it again")
            status = 1
        if not any(map(ladder.finished, rungs)):
            _say("no run has come to its end so far")
            return status
        result = report(ladder, complete=status == 0)
        print(json.dumps(result) if options.json else text(result))
        if options.plot:
            runs = {name: [ladder.place(name, seed) for seed in ladder.finished(name)] for name in rungs}
            draw(runs, result["goal"], options.plot)
    except UserError as error:
        _say(str(error))
        return 2
    return status


def climb(ladder: Ladder) -> None:
    """Makes the demonstrations and all runs that are not there yet.

    Raises:
        UserError: settings that could not run, or that differ from those of a run that is there.
        RuntimeError: a command failed.
    """
    for rung in ladder.rungs:
        config = _compose(*ladder.command(rung, 0))
        if not ladder.imitates(rung):
            check_train(config)
    if any(map(ladder.imitates, ladder.rungs)):
        _record(ladder.demos)
    for rung in ladder.rungs:
        if ladder.imitates(rung):
            check_train(_compose(*ladder.command(rung, 0)))
        for seed in ladder.finished(rung):
            _check_same(ladder, rung, seed)
    for seed in range(ladder.seeds):
        for rung in ladder.rungs:
            if seed not in ladder.finished(rung):
                _run(ladder, rung, seed)


def report(ladder: Ladder, complete: bool) -> dict[str, Any]:
    """All that is known of the runs in the ladder's folder, as it stands in the JSON."""
    runs = {name: [_read(ladder, name, seed) for seed in ladder.finished(name)] for name in ladder.rungs}
    runs = {name: each for name, each in runs.items() if each}
    config = _compose(*ladder.command(ladder.rungs[0], 0))
    goal = config.goal
    # An interrupted recording leaves none.
    shows_demos = any(map(ladder.imitates, ladder.rungs)) and ladder.demos.exists()
    return {
        "law": "snoopy",
        "time_scale": ladder.time_scale,
        "instances": config.env.instances,
        "cap_seconds": ladder.cap_seconds,
        "goal": {"metric": goal.metric, "at_most": goal.at_most, "window": goal.window_samples},
        "overrides": list(ladder.overrides),
        "machine": machine(),
        "complete": complete,
        "demonstrations": _demonstrations(ladder.demos) if shows_demos else None,
        "rungs": {
            name: {"settings": _settings(ladder, name), "tuning": TUNING[name], **rung_figures(name, runs)}
            for name in runs
        },
        "claims": claims(runs),
    }


def demo_keys(rung: str, overrides: tuple[str, ...]) -> tuple[str, ...]:
    """The keys by which a rung is told of demonstrations, as its experiment does."""
    leaves = _leaves(asdict(_compose(f"+experiment={rung}", *overrides)))
    return tuple(key for key, value in leaves if key.endswith(".demos") and value is not None)


def _run(ladder: Ladder, rung: str, seed: int) -> None:
    """Trains; `ladder.json` is written last, and tells a run that came to its end from one that did not."""
    folder, overrides = ladder.place(rung, seed), ladder.command(rung, seed)
    if folder.exists():  # half a run says nothing about time
        if any(folder.iterdir()) and not (folder / "config.yaml").is_file():
            raise UserError(f"{folder} is no run's folder, and in the way of one: use another --folder")
        shutil.rmtree(folder)
    _say(f"{rung}, seed {seed}")
    began = time.perf_counter()
    train(overrides, folder)
    notes = {
        "command_seconds": time.perf_counter() - began,
        "overrides": overrides,
        "machine": machine(),
        "demonstrations": _digest(ladder.demos) if ladder.imitates(rung) else None,
    }
    (folder / "ladder.json").write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def _read(ladder: Ladder, rung: str, seed: int) -> Run:
    notes, summary = _files(ladder.place(rung, seed))
    return Run.of(seed, summary, notes["command_seconds"])


def _files(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's `ladder.json` and `summary.json`."""
    try:
        notes, summary = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("ladder", "summary"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): remove it, and it is run again") from error
    return notes, summary


def _check_same(ladder: Ladder, rung: str, seed: int) -> None:
    """Raises UserError if the run in the folder is not the one that would be run now."""
    folder = ladder.place(rung, seed)
    notes, _ = _files(folder)
    now = {**_flat(_compose(*ladder.command(rung, seed))), **machine()}
    then = {**_flat(load_config(folder)), **notes["machine"]}
    if ladder.imitates(rung):
        now["demonstrations"], then["demonstrations"] = _digest(ladder.demos), notes["demonstrations"]
    for key in (*now, *then):
        if now.get(key) != then.get(key):
            raise UserError(
                f"{folder} was run with {key}={then.get(key)}, and not with {key}={now.get(key)}: "
                "use another --folder, or remove it"
            )


def _record(file: Path) -> None:
    """Lets the bot play, unless the file is there; one that was interrupted is not."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name("unfinished.demo")
    for left in (aside, aside.with_name(f"{aside.name}.part")):  # by one that was killed
        left.unlink(missing_ok=True)
    record(["env=bubble_shooter"], "bot", PLAY_THROUGHS, aside, SEED)
    aside.replace(file)


def _demonstrations(file: Path) -> dict[str, Any]:
    from envs.unity.demo.reader import read_demo

    lengths = [len(episode.rewards) for episode in read_demo(file).episodes]
    # A step shoots one bubble, and a failed game has shot as many as the level's limit.
    return {
        "episodes": len(lengths),
        "steps": sum(lengths),
        "mean_bubbles": sum(lengths) / len(lengths),
        "sha256": _digest(file),
    }


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache  # Hydra takes 0.1 s
def _compose(*overrides: str) -> TrainConfig:
    return compose(overrides, TrainConfig, "config")


def _settings(ladder: Ladder, rung: str) -> dict[str, Any]:
    """What the rung sets otherwise than its algorithm's and level's defaults."""
    config = _compose(f"+experiment={rung}", *ladder.overrides)
    default = _flat(_compose("env=bubble_shooter", f"algorithm={config.algorithm.name}"))
    set_here = {
        key: value
        for key, value in _flat(config).items()
        if value is not None and value != default.get(key) and not key.startswith("goal.")
    }
    return {**set_here, **dict.fromkeys(demo_keys(rung, ladder.overrides), ladder.demos.name)}


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Values by dotted keys, but for those that only say where files lie and what they are called."""
    places = ("run.dir", "run.name", "run.choices.")
    leaves = _leaves(asdict(config))
    return {key: value for key, value in leaves if not key.startswith(places) and not key.endswith(".demos")}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value.name if isinstance(value, Enum) else value


def _say(line: str) -> None:
    print(f"snoopy_ladder: {line}", file=sys.stderr, flush=True)


def _options(argv: list[str] | None) -> argparse.Namespace:
    """Raises UserError for what is no ladder."""
    options = _parser().parse_intermixed_args(argv)
    # What follows --rungs without an option between is taken for rungs.
    options.overrides += [each for each in options.rungs if "=" in each]
    options.rungs = [each for each in options.rungs if "=" not in each] or list(RUNGS)
    for rung in options.rungs:
        if rung not in RUNGS:
            raise UserError(f"--rungs {rung}: there is {', '.join(RUNGS)}")
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds} must be at least 1")
    if not options.cap_seconds > 0:
        raise UserError(f"--cap-seconds {options.cap_seconds:g} must be above 0")
    for override in options.overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key in _OWN:
            raise UserError(f"{override}: the ladder sets {key} itself; use {_OWN[key]}")
        if key.endswith(".demos"):
            raise UserError(f"{override}: the ladder's demonstrations are its own; {key} is for the experiment's YAML")
    if options.plot is not None:
        if options.plot.suffix not in (".png", ".svg") or not options.plot.parent.is_dir():
            raise UserError(f"--plot {options.plot} must be a .png or .svg in a folder that is there")
        if find_spec("matplotlib") is None:
            raise UserError("--plot needs matplotlib: pip install 'outstep[bench]'")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.snoopy_ladder", description="Time to mastery, rung by rung.")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of `python -m trainer`, for every rung")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each rung, with seeds 0, 1, ... (3)")
    parser.add_argument("--rungs", nargs="+", default=[], help=f"experiments ({' '.join(RUNGS)})")
    parser.add_argument("--folder", type=Path, default=Path("runs/ladder"), help="where runs are kept (runs/ladder)")
    parser.add_argument("--time-scale", type=float, default=20.0, help="how much faster games run (20)")
    parser.add_argument("--cap-seconds", type=float, default=1800.0, help="after which a run is given up (1800)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--plot", type=Path, help="draw all runs' bubbles by seconds: .png or .svg")
    return parser


if __name__ == "__main__":
    sys.exit(main())
