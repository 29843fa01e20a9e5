"""Starts a training run, in the order that takes the least time.

torch takes a second or more to import in each process, so nothing is imported here that needs it: the collector's
process starts first, and instances start while both processes import torch.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from envs.spec import Lessons, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore, restoring
from trainer.config.runs import RUNS, overridden_name
from trainer.config.saved import save_config
from trainer.config.schema import Cluster, Mode, TrainConfig
from trainer.config.spaces import save_spaces
from trainer.curriculum import Curriculum
from trainer.runtime.behaviors import known_behaviors
from trainer.runtime.collector_host import CollectorHandle, InlineCollector
from trainer.runtime.collector_process import CollectorProcess
from trainer.runtime.device import one_torch_thread
from trainer.runtime.ipc import SAMPLES, Shared
from trainer.runtime.learners import Learners
from trainer.runtime.run_lock import run_lock
from trainer.runtime.signals import Interrupt, Interrupted
from trainer.runtime.stop import endless, finished
from trainer.saved_policy import saved_specs
from trainer.telemetry.callbacks import Caller
from trainer.telemetry.console import Progress


def start(config: TrainConfig, begun: Callable[[Path], None] = lambda _: None) -> int:
    """Trains by a composed and checked configuration, in a new folder or a resumed run's; returns the exit status.

    `begun` is told the folder before anything happens in it.
    """
    with opened_run(config) as (config, folder):
        begun(folder)
        return train(config, folder)


@contextmanager
def opened_run(config: TrainConfig) -> Iterator[tuple[TrainConfig, Path]]:
    """Makes the folder of a new run, or finds a resumed one's, and holds its lock.

    Yields:
        The configuration, with the run's name, and the folder.
    """
    if config.resume is not None:
        folder = Path(config.resume)
    else:
        choices = config.run.choices
        name = config.run.name or choices.get("experiment") or f"{choices['env']}_{choices['algorithm']}"
        config = replace(config, run=replace(config.run, name=name))
        folder = _new_folder(config)
    with run_lock(folder):
        if config.resume is None:
            _begin(config, folder)
        yield config, folder


def _new_folder(config: TrainConfig) -> Path:
    """Makes the run's folder: `runs/<name>/<time>_<what was overridden>`."""
    name = re.sub(r"[^\w.+-]", "-", config.run.name or "")
    own = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{overridden_name(config)}".rstrip("_")
    folder = Path(config.run.dir or RUNS / name / own)
    try:
        if config.run.dir is None:
            numbered = (folder.with_name(f"{folder.name}_{count}") for count in itertools.count(2))
            folder = next(each for each in itertools.chain([folder], numbered) if not each.exists())
        folder.mkdir(parents=True, exist_ok=config.run.dir is not None)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _begin(config: TrainConfig, folder: Path) -> None:
    """Writes `config.yaml`; a run that was killed here before its first checkpoint is forgotten."""
    store = CheckpointStore(folder / "checkpoints")
    try:
        while (folder / "config.yaml").exists() and (best := store.best()):
            shutil.rmtree(best)  # the best weights so far, which are no more than that
        save_config(config, folder)
        save_spaces(config.env.spaces(config.seed), folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"the run's folder {folder} cannot be written ({error.strerror}): name another, run.dir=")


def train(config: TrainConfig, folder: Path, caller: Caller | None = None) -> int:
    """Trains until something ends the run. Returns the exit status: 0, or 128 + the signal that interrupted it.

    Args:
        config: composed and checked.
        folder: the run's folder; it exists and holds `config.yaml`.
        caller: the Python program that asked for the run; None for a command.

    Raises:
        UserError: something failed that the user can mend; what was learned is saved. An error of a callback is raised
            in the same way.
    """
    command, caller = caller is None, caller or Caller()
    store = CheckpointStore(folder / "checkpoints", config.checkpoint.keep)
    checkpoint = store.load_latest() if config.resume else None
    if checkpoint is not None:
        saved_specs(checkpoint)
        with restoring(checkpoint.path):
            end = finished(config, checkpoint)
        if end:
            print(end, file=sys.stderr)
            return 0
    inline = config.run.mode is Mode["inline"]
    with Interrupt(exits=command) as interrupt, suppress(Interrupted), ExitStack() as ends:
        progress = ends.enter_context(Progress(str(folder), folder, quiet=not caller.verbose))
        progress.start(_first_line(config))
        progress.wait("loading PyTorch")
        saved = checkpoint.state.get("curriculum") if checkpoint else None
        with restoring(checkpoint.path) if checkpoint else nullcontext():
            curriculum = Curriculum(config.env.read_parameters(), saved, tells_all=not config.env.sends_statistics)
        shared = _share(config, checkpoint, curriculum.lessons)

        def start_collector() -> CollectorHandle:
            # Inline, it waits for games to start. Starting a process must not be broken off: it would be left behind.
            with interrupt.breakable() if inline else nullcontext():
                resume = checkpoint.state.get("collector", {}) if checkpoint else None
                collector = _collector_of(config)(config, folder, shared, resume)
            return ends.enter_context(closing(collector))

        # A resumed run restores its rows first, before anything may be added to them.
        early = None if inline or checkpoint else start_collector()
        others = ends.enter_context(closing(Learners(config))) if config.learners > 1 else None
        from trainer.runtime.run import Run
        from trainer.telemetry.run_logger import RunLogger

        report = checkpoint.state["report"] if checkpoint else None
        with restoring(checkpoint.path) if checkpoint else nullcontext():
            logger = RunLogger(config, folder, shared.samples, report, progress, caller, curriculum)
        ends.enter_context(one_torch_thread())
        with closing(logger):
            run = Run(config, store, checkpoint, interrupt, shared, logger, curriculum, others)
            run.train(early or start_collector())
    if caller.error is not None:
        raise caller.error
    return 0 if interrupt.signal is None else 128 + interrupt.signal


def _collector_of(config: TrainConfig) -> Callable[..., CollectorHandle]:
    """Returns what makes the collector: in this process, in one of its own, or one that stands for those of hosts."""
    if config.run.mode is Mode["inline"]:
        return InlineCollector
    if config.cluster.name is Cluster.none:
        return CollectorProcess
    from trainer.cluster.ingest_process import ingest

    return partial(CollectorProcess, main=ingest)


def _share(config: TrainConfig, checkpoint: Checkpoint | None, lessons: Lessons) -> Shared:
    shared = Shared(*known_behaviors(config), instances=config.instances, lessons=len(lessons.at))
    shared.lessons = lessons
    for name, saved in checkpoint.state["behaviors"].items() if checkpoint else ():
        shared.claim(name)
        shared.counters(name)[SAMPLES] = saved["samples"]
    return shared


def _first_line(config: TrainConfig) -> str:
    """Returns what a run says at once: what it starts, and how long it will go on if nothing ends it."""
    games = config.instances
    line = f"Starting {games:,} game{'s' * (games != 1)} …"
    return f"{line} Without stop.* or goal.* the run goes on for ever, until Ctrl+C." if endless(config) else line
