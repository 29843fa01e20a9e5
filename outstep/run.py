"""Training runs in Python: made, loaded, looked at, and gone on with."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from envs.spec import BehaviorSpec, UserError
from outstep import settings as given
from outstep.policy import Policy
from outstep.results import Evaluation, Metric, read_metrics

if TYPE_CHECKING:
    from trainer.config.schema import TrainConfig
    from trainer.telemetry.callbacks import Caller, CheckpointCallback, EpisodeCallback, LogCallback

    EndCallback = Callable[["Run"], object]

_training = threading.Lock()


def train(
    *words: str,
    env: Any = None,
    verbose: bool = True,
    on_log: LogCallback | None = None,
    on_episode: EpisodeCallback | None = None,
    on_checkpoint: CheckpointCallback | None = None,
    on_end: EndCallback | None = None,
    **settings: Any,
) -> Run:
    """Trains until a goal, a limit, a callback or Ctrl+C ends the run, and returns it. Without a limit it never ends.

    `train("snoopy_sac", "algorithm.learning_rate=1e-3")` does what the command line does with the same words;
    `train(env=MyEnv, algorithm="ppo", stop={"samples": 50_000})` says it in Python. It works in scripts with and
    without a main guard, in notebooks and in threads; one run at a time in each process.

    Args:
        words: the name of an experiment, and settings as on the command line (`key=value`).
        env: a Gymnasium id; a class or a function, also a lambda, that makes an environment; a kind of environment
            (`unity`, `bubble_shooter`); or a dict of its settings: `{"id": MyEnv, "instances": 4}`.
        verbose: whether messages and progress are shown. The run's `train.log` has them in any case.
        on_log: called as `on_log(samples, values)` once a logging interval (`run.log_seconds`), with all metrics.
        on_episode: called as `on_episode(behavior, episode)` with each episode that has ended: its `reward`, `length`,
            `metrics`, `instance`, and `samples`, those of the run by then.
        on_checkpoint: called as `on_checkpoint(folder)` with each checkpoint that was written, newest and best.
        on_end: called as `on_end(run)` once the run has ended as planned, before it is returned.
        settings: all other settings by key: values, nested dicts, or dotted keys as in `**{"run.log_seconds": 5}`.

    Callbacks are called between updates, which wait for them. If one returns True, the run stops and is saved. If one
    raises something, the run is saved, and it is raised here.

    Raises:
        UserError: settings that are wrong, or an environment that fails, in one message.
        KeyboardInterrupt: Ctrl+C, once the run is saved; a second one at once.
    """
    from trainer.telemetry.callbacks import Caller

    chosen, pickled = ([], None) if env is None else given.environment(env)
    caller = Caller(on_log, on_episode, on_checkpoint, verbose)
    return _train([*given.overrides(words, {}), *chosen, *given.overrides((), settings)], pickled, caller, on_end)


def load(run: str | Path = "latest", trust: bool = False) -> Run:
    """Returns the run in a folder; `latest` is the one below `runs` that was begun or gone on with last.

    Args:
        run: its folder.
        trust: whether what its configuration names may be run although somebody else has made it: see SECURITY.md.

    Raises:
        UserError: there is none, its configuration cannot be read, or somebody else has made it.
    """
    from trainer.config.runs import found_run

    found = Run(Path(found_run(str(run))).expanduser(), trust=trust)
    _ = found.config  # refuses what is no run
    return found


class Run:
    """A training run. `train` and `load` return one."""

    def __init__(self, folder: str | Path, pickled_env: bytes | None = None, trust: bool = False) -> None:
        """Finds the run in `folder`; `pickled_env` makes its environment if a program has given that. See `load`."""
        self._trust = trust
        self.folder = Path(folder)
        """The run's folder."""
        self._pickled_env = pickled_env

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def config(self) -> TrainConfig:
        """All settings of the run: `run.config.algorithm.learning_rate`."""
        from trainer.config.compose import load_config

        return load_config(self.folder, self._trust)

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` says: samples, seconds, why the run ended, and more; empty before it has ended once."""
        file = self.folder / "summary.json"
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return found

    def metrics(self) -> dict[str, Metric]:
        """Returns all metrics by name, such as `episode/reward`: arrays of samples, seconds and values."""
        return read_metrics(self.folder)

    def policy(self, checkpoint: Literal["best", "last"] = "best", behavior: str | None = None) -> Policy:
        """Returns a trained policy.

        Args:
            checkpoint: `best`, by the mean episode reward in training (the last one where there is no best), or `last`.
            behavior: whose policy; None = of the only one.

        Raises:
            UserError: there is no checkpoint or no such behavior.
        """
        from trainer.config.spaces import load_spaces
        from trainer.saved_policy import load_checkpoint, trained_policy

        config, saved = self.config, load_checkpoint(str(self.folder), _which(checkpoint))
        name = _one_of(saved.state["behaviors"], behavior)
        spec = BehaviorSpec.from_dict(saved.state["behaviors"][name]["spec"])
        return Policy(trained_policy(config, saved, spec), config, load_spaces(self.folder).get(name))

    def evaluate(
        self,
        episodes: int = 20,
        *,
        checkpoint: Literal["best", "last"] = "best",
        behavior: str | None = None,
        deterministic: bool = True,
        seed: int = 1_000_000,
        env: Any = None,
    ) -> Evaluation:
        """Plays whole episodes with a trained policy on the run's environment, and returns what they score.

        Args:
            episodes: how many to play of each behavior.
            checkpoint: as for `policy`.
            behavior: whose episodes to return; None = of the only one.
            deterministic: whether the likeliest action is taken; else actions are drawn.
            seed: of the episodes; far from those of training.
            env: the environment again, if a program has given it and the run was loaded from its folder since.

        Raises:
            UserError: there is no checkpoint, or the environment fails or is not at hand.
        """
        from envs.config import check_ranges
        from trainer.config.schema import EvaluateConfig
        from trainer.evaluate.play import evaluate
        from trainer.saved_policy import load_checkpoint

        asked = EvaluateConfig(str(self.folder), episodes=episodes, checkpoint=_which(checkpoint), seed=seed)
        check_ranges(asked)
        saved, config = load_checkpoint(asked.run, asked.checkpoint), self.config
        name = _one_of(saved.state["behaviors"], behavior)
        _give(config, self._pickled(config, env))
        config.env.for_evaluation(min(episodes, config.env.instances)).check()
        played = evaluate(config, saved, episodes, seed=seed, deterministic=deterministic)
        mine = [each for each in played if each.behavior == name]
        metrics = sorted({key for each in mine for key in each.metrics})
        return Evaluation(
            np.array([each.reward for each in mine], np.float64),
            np.array([each.length for each in mine], np.int64),
            {key: np.array([each.metrics.get(key, np.nan) for each in mine], np.float64) for key in metrics},
        )

    def resume(
        self,
        *words: str,
        env: Any = None,
        verbose: bool = True,
        on_log: LogCallback | None = None,
        on_episode: EpisodeCallback | None = None,
        on_checkpoint: CheckpointCallback | None = None,
        on_end: EndCallback | None = None,
        **settings: Any,
    ) -> Run:
        """Goes on with the run from where it stopped, and returns it: `run.resume(stop={"samples": 100_000})`.

        Only what ends a run, checkpoints, logging, the device and the number of instances may differ from before.

        Args:
            words: settings as on the command line.
            env: the environment again, if a program has given it and the run was loaded from its folder since.
            verbose: as for `train`, as is the rest.
            on_log: as for `train`.
            on_episode: as for `train`.
            on_checkpoint: as for `train`.
            on_end: as for `train`.
            settings: as for `train`.
        """
        from trainer.telemetry.callbacks import Caller

        overrides = given.overrides(words, {"resume": self.folder, "trust": self._trust, **settings})
        caller = Caller(on_log, on_episode, on_checkpoint, verbose)
        return _train(overrides, self._pickled(self.config, env), caller, on_end)

    def _pickled(self, config: TrainConfig, env: Any) -> bytes | None:
        """Returns what makes the run's environment, if that is given; UserError if the run names it itself."""
        if env is None:
            return self._pickled_env
        if config.run.choices.get("env") != "factory":
            raise UserError(f"this run names its environment itself ({config.env.label}): leave env out")
        return given.given_again(env)


def _train(overrides: list[str], pickled: bytes | None, caller: Caller, on_end: EndCallback | None) -> Run:
    from trainer.config.compose import compose
    from trainer.config.schema import TrainConfig
    from trainer.runtime.checks import check_train
    from trainer.runtime.start import opened_run, train

    if not _training.acquire(blocking=False):
        raise UserError(
            "this process trains already, in another thread or in the run that called back: wait for its end, or "
            "train in a process of its own"
        )
    try:
        with _programs_own(), nullcontext() if caller.verbose else _silence():
            config = _named(compose(overrides, TrainConfig, "config"))
            _give(config, pickled)
            check_train(config)
            with opened_run(config) as (config, folder):
                status = train(config, folder, caller)
    finally:
        _training.release()
    if status:  # what the signal would have done is done now that the run is saved
        signal.raise_signal(status - 128)
    run = Run(folder, pickled)
    if on_end is not None:
        on_end(run)
    return run


def _named(config: TrainConfig) -> TrainConfig:
    """Returns the configuration of a run on a class or function of the user's with the name of that."""
    choices = config.run.choices
    if config.run.name or choices["env"] != "factory" or choices.get("experiment") or config.resume:
        return config
    name = f"{config.env.behavior_names[0]}_{choices['algorithm']}"
    return replace(config, run=replace(config.run, name=name))


def _give(config: TrainConfig, pickled: bytes | None) -> None:
    from envs.gym.factory import FactoryConfig

    if pickled is not None and isinstance(config.env, FactoryConfig):
        config.env.give(pickled)


@contextmanager
def _programs_own() -> Iterator[None]:
    """Keeps what libraries share in a process: handlers of the root logger, and Hydra, which the program may use."""
    from hydra.core.global_hydra import GlobalHydra

    root = logging.getLogger()
    handlers, hydra = list(root.handlers), GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = hydra
        for handler in [each for each in root.handlers if each not in handlers]:
            root.removeHandler(handler)


@contextmanager
def _silence() -> Iterator[None]:
    """Lets no message of ours be shown, also before a run has its `train.log`."""
    ours, nowhere = logging.getLogger("outstep"), logging.NullHandler()
    before, ours.propagate = ours.propagate, False
    ours.addHandler(nowhere)
    try:
        yield
    finally:
        ours.removeHandler(nowhere)
        ours.propagate = before


def _which(checkpoint: str) -> Any:
    from trainer.config.schema import Which

    if checkpoint not in Which.__members__:
        raise UserError(f"checkpoint={checkpoint!r}: expected one of {', '.join(Which.__members__)}")
    return Which[checkpoint]


def _one_of(behaviors: dict[str, Any], name: str | None) -> str:
    there = ", ".join(map(repr, sorted(behaviors)))
    if name is None and len(behaviors) == 1:
        return next(iter(behaviors))
    if name is None:
        raise UserError(f"the run has several behaviors: choose one with behavior=, of {there}")
    if name not in behaviors:
        raise UserError(f"behavior={name!r}: the run has {there}")
    return name
