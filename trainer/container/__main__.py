"""`outstep container train|serve`: what a managed container runs, by SageMaker's contract.

`train` takes hyperparameters as overrides of `outstep train`, trains in a folder that outlives the machine, resumes
if that holds a checkpoint, and hands over models; `serve` serves the one model that is there. All files lie below
`/opt/ml`, or the folder in the environment variable `OUTSTEP_ML_ROOT`.

Exit statuses are those of `outstep train` and `trainer.serve`. Why a training failed stands in `output/failure`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs.process.output import keep_output
from envs.spec import UserError
from trainer.checkpoint import CheckpointStore
from trainer.config.compose import compose
from trainer.config.errors import one_line
from trainer.config.help import about
from trainer.config.schema import Cluster, TrainConfig
from trainer.container.machines import Machines, join, lead, machines_of
from trainer.data_files import read_json
from trainer.export.model_file import SUFFIX
from trainer.runtime.checks import check_train
from trainer.runtime.start import start
from trainer.serve.__main__ import main as serve

_HELP = """usage: outstep container train|serve

train   trains by input/config/hyperparameters.json, in checkpoints/run, and writes models to model/
serve   answers POST /invocations and GET /ping with the one model in model/, on port 8080

All of that lies below /opt/ml, or OUTSTEP_ML_ROOT. See docs/deploy.md."""
METRICS = {name: f"{name}: ([-+.0-9e]+)" for name in ("episode_reward_mean", "samples", "samples_per_second")}
"""Regular expressions for the metrics that `train` prints, once a logging interval and at the end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains or serves as a managed container does, after SageMaker's contract."""
    keep_output()
    words = sys.argv[1:] if argv is None else argv
    if shown := about(words, _HELP):
        print(shown)
        return 0
    root = Path(os.environ.get("OUTSTEP_ML_ROOT", "/opt/ml"))
    # Until a run or a server handles it: the first process of a container survives signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if list(words) == ["train"]:
            return _train(root)
        if list(words) == ["serve"]:
            return _serve(root)
        raise UserError(
            f"{' '.join(words) or 'nothing'} was asked for: give train or serve, and nothing else; see --help"
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before a run handles signals itself
        return 130


def check_hyperparameters(names: Iterable[str]) -> None:
    """Refuses hyperparameters that the container sets itself, by a UserError."""
    for name in names:
        if name.lstrip("+") in ("resume", "run.dir"):
            raise UserError(
                f"{name} is not for a managed container: its run lies with the job's checkpoints, and goes on where "
                "there are some. Another job's go on if it is given their S3 address"
            )


def _train(root: Path) -> int:
    failure = root / "output" / "failure"
    failure.unlink(missing_ok=True)
    try:
        return _run(root)
    except Exception as error:
        words = one_line(error)
        if not isinstance(error, UserError):
            words = f"an error of Outstep's own, see the log: {type(error).__name__}: {words}"
        with suppress(OSError):  # it is raised again
            failure.parent.mkdir(parents=True, exist_ok=True)
            failure.write_text(f"{words}\n", encoding="utf-8")
        raise


def _run(root: Path) -> int:
    resources = root / "input" / "config" / "resourceconfig.json"
    machines = machines_of(resources, _json(resources))
    run = root / "checkpoints" / "run"
    config = _configuration(root, run, _channels(root), machines)
    check_train(config)
    if not machines.first:
        return join(machines)
    log, lines = logging.getLogger("outstep"), _MetricLines(logging.INFO)
    log.addHandler(lines)
    try:
        status = lead(machines, lambda: start(config))
    finally:
        log.removeHandler(lines)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the rest takes a moment
        _hand_over(run, root)
    if (file := run / "summary.json").exists():
        summary = json.loads(file.read_text(encoding="utf-8"))
        _print_metrics(summary["samples"], summary["samples_per_second"], summary["episode_reward_mean"])
    return status


def _serve(root: Path) -> int:
    models = sorted((root / "model").glob(f"[!.]*{SUFFIX}"))
    if len(models) != 1:
        there = ", ".join(model.name for model in models) or f"no file *{SUFFIX}"
        raise UserError(f"{root / 'model'} holds {there}: an endpoint serves one model, pack one")
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")
    # A platform's own proxies ask by names that nobody knows here, and no browser reaches a managed container.
    hosts = ",".join(f"'{name.strip()}'" for name in os.environ.get("OUTSTEP_ALLOWED_HOSTS", "*").split(","))
    return serve([f"model={models[0]}", "host=0.0.0.0", f"port={port}", f"allowed_hosts=[{hosts}]"])


def _configuration(root: Path, run: Path, channels: Mapping[str, Path], machines: Machines) -> TrainConfig:
    """Returns the configuration of a new run, or of the one to resume if there is a checkpoint."""
    file = root / "input" / "config" / "hyperparameters.json"
    resumes = CheckpointStore(run / "checkpoints").latest() is not None
    if not file.exists() and not resumes:
        raise UserError(
            f"{file} does not exist: a job's hyperparameters, such as env.id, are read from it. The environment "
            "variable OUTSTEP_ML_ROOT names another folder than /opt/ml"
        )
    given = _json(file)
    given.pop("_tuning_objective_metric", None)  # which a tuning job adds
    check_hyperparameters(given)
    given = {**machines.hyperparameters(), **given}
    words = [
        # An experiment is added to what is chosen by default.
        f"{'+' if name == 'experiment' else ''}{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in given.items()
    ]
    if resumes:
        words += [f"resume={run}", "trust=true"]  # of this job, or of the one whose checkpoints it was given
    else:
        words.append(f"run.dir={run}")
    config = compose(words, TrainConfig, "config")
    if machines.several and config.cluster.name is Cluster.none:
        raise UserError(
            f"the job has {len(machines.all)} machines, of which cluster=none uses one: leave it out, or ask for one"
        )
    return replace(config, env=config.env.with_files(channels))


def _channels(root: Path) -> dict[str, Path]:
    """Returns the folders of data by environment variable, `SM_CHANNEL_<NAME>`, and sets these variables."""
    for name, each in _json(root / "input" / "config" / "inputdataconfig.json").items():
        if each.get("TrainingInputMode") == "Pipe":
            raise UserError(f"channel {name} comes by Pipe, but a run needs files: let it come by File")
    data = root / "input" / "data"
    found = {f"SM_CHANNEL_{each.name.upper()}": each for each in sorted(data.glob("*")) if each.is_dir()}
    found |= {name: Path(place) for name, place in os.environ.items() if name.startswith("SM_CHANNEL_")}
    os.environ.update({name: str(folder) for name, folder in found.items()})
    return found


def _json(file: Path) -> dict[str, Any]:
    """Returns the object in a file; empty if there is none."""
    if not file.exists():
        return {}
    try:
        content = read_json(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds {type(content).__name__}: it must be an object, by name")
    return content


def _hand_over(run: Path, root: Path) -> None:
    """Copies models, and the run's logs and metrics, to where they are collected."""
    if not run.is_dir():
        return
    (root / "model").mkdir(parents=True, exist_ok=True)
    for model in (run / "models").glob(f"[!.]*{SUFFIX}"):
        shutil.copy(model, root / "model")
    elsewhere = shutil.ignore_patterns("checkpoints", "models", "in_use")
    shutil.copytree(run, root / "output" / "data", ignore=elsewhere, dirs_exist_ok=True)


class _MetricLines(logging.Handler):
    """Prints the figures of each status that a run logs."""

    def emit(self, record: logging.LogRecord) -> None:
        if status := getattr(record, "status", None):
            _print_metrics(status.samples, status.samples_per_second, status.reward)


def _print_metrics(samples: int, samples_per_second: float, reward: float | None) -> None:
    words = f"samples: {samples} samples_per_second: {samples_per_second:.6g}"
    print(words if reward is None else f"{words} episode_reward_mean: {reward:.6g}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
