"""The study in a sweep's folder: Optuna's journal, and locks by which several processes share it and outlive kills.

A trial belongs to the process that holds the lock of its folder, which the system takes from a process that ends in
whatever way. A trial that is under way in the journal, and whose lock nobody holds, is taken up by whoever asks next.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from envs.spec import UserError
from trainer.runtime.run_lock import is_occupied, lock_file
from trainer.sweep.plan import POINTS, Plan
from trainer.sweep.population import Part, next_part
from trainer.sweep.settings import Pruner, Sampler
from trainer.sweep.space import Parameter, combinations

JOURNAL = "study.journal"
_NAME = "outstep"
_LOCKS = _STUDY_LOCK, _JOURNAL_LOCK = "study.lock", "journal.lock"
_IDENTITY, _PART, _WORDS = "identity", "part", "words"
"""Attributes of a study and of a trial."""
_PAUSE_SECONDS = 0.005
_SEEDS = 2**31

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass(frozen=True)
class Claimed:
    """A trial that this process makes, until it lets go of it."""

    number: int
    values: dict[str, float | str]
    """By name of the parameter."""
    folder: Path
    trial: optuna.Trial
    part: Part | None
    """What of a population's member it is."""
    lock: IO[bytes]

    def let_go(self) -> None:
        """Leaves the trial to whoever asks next, unless it has ended."""
        self.lock.close()


class Study:
    """A study that this process takes part in."""

    def __init__(self, plan: Plan) -> None:
        """Makes the study, or opens it; UserError if the folder cannot be written, or holds another one."""
        self._plan = plan
        self.folder = plan.folder
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(plan.folder)
            with self._locked():
                self.study: optuna.Study = self._opened()
        except OSError as error:
            raise UserError(f"to={plan.folder} cannot be written ({error.strerror}): name another folder") from error

    def trials(self) -> list[FrozenTrial]:
        """Returns all trials so far, by their numbers."""
        return self.study.get_trials(deepcopy=False)

    @property
    def finished(self) -> bool:
        """Whether all trials have ended."""
        trials = self.trials()
        return len(trials) >= self._plan.trials and all(trial.state.is_finished() for trial in trials)

    def next(self) -> Claimed | None:
        """Returns a trial to make: one that nobody makes any more, or a new one; None if there is none now."""
        with self._locked():
            trials = self.trials()
            for trial in trials:
                if trial.state is not TrialState.RUNNING or (lock := self._claim(trial.number)) is None:
                    continue
                if not self._is_trained(trial.number):
                    return self._claimed(trial.number, lock)
                lock.close()
            begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
            if len(begun) >= self._plan.trials:
                return None
            if len(begun) == len(trials) and not self._propose(trials):
                return None
            self.study.sampler = self._sampler(len(begun))
            number = self.study.ask().number
            lock = self._claim(number)
            if lock is None:
                raise RuntimeError(f"the new trial {number} is somebody else's")
            return self._claimed(number, lock)

    def report(self, claimed: Claimed, point: int, value: float) -> None:
        """Notes the score of a trial at one of its points. The first note of each counts."""
        if point not in claimed.trial.storage.get_trial(_trial_id(self.study, claimed.number)).intermediate_values:
            claimed.trial.report(value, point)

    def looks_bad(self, claimed: Claimed) -> bool:
        """Returns whether the pruner ends a trial."""
        return claimed.trial.should_prune()

    def tell(self, claimed: Claimed, state: TrialState, value: float | None = None, **notes: Any) -> None:
        """Notes how a trial has ended, and lets go of it."""
        for name, note in notes.items():
            claimed.trial.set_user_attr(name, note)
        self.study.tell(claimed.number, value, state)
        claimed.let_go()

    def best(self) -> FrozenTrial | None:
        """Returns the trial with the best score of those that were not ended early; None without any."""
        return best_of(self.trials(), self._plan.maximize)

    def _propose(self, trials: Sequence[FrozenTrial]) -> bool:
        """Puts the next trial's values into the journal where they are not the sampler's; False if it has to wait."""
        if self._plan.sampler is Sampler.grid:
            values = next(
                each for place, each in enumerate(combinations(self._plan.parameters)) if place == len(trials)
            )
            self.study.enqueue_trial(_typed(values, self._plan.parameters))
        elif self._plan.sampler is Sampler.pbt:
            part = next_part([(trial, _part(trial)) for trial in trials], self._plan)
            if part is None:
                return False
            values = _typed(part.values, self._plan.parameters)
            self.study.enqueue_trial(values, user_attrs={_PART: part.to_dict()})
        return True

    def _is_trained(self, number: int) -> bool:
        """Returns whether a run of a trial still goes on, as the process that has started it was killed just now.

        Its owner alone may ask, because the question takes the run's lock for a moment.
        """
        return any(is_occupied(folder) for folder in trial_folder(self.folder, number).glob("*/"))

    def _claim(self, number: int) -> IO[bytes] | None:
        """Returns the lock of a trial's folder; None if another has it, or this process itself."""
        folder = trial_folder(self.folder, number)
        folder.mkdir(parents=True, exist_ok=True)
        return _lock(folder / "claimed")

    def _claimed(self, number: int, lock: IO[bytes]) -> Claimed:
        self.study.sampler = self._sampler(number)
        trial = optuna.Trial(self.study, _trial_id(self.study, number))
        values = {each.name: _suggested(trial, each) for each in self._plan.parameters}
        if _WORDS not in trial.user_attrs:
            trial.set_user_attr(_WORDS, [each.word(values[each.name]) for each in self._plan.parameters])
        folder = trial_folder(self.folder, number)
        return Claimed(number, values, folder, trial, _part(self.trials()[number]), lock)

    def _opened(self) -> optuna.Study:
        study = load(self.folder, self._plan)
        before = study.user_attrs.get(_IDENTITY)
        own = self._plan.identity()
        if before != own:
            if before is not None:
                self._refuse_other(study, before, own)
            study.set_user_attr(_IDENTITY, own)
        return study

    def _refuse_other(self, study: optuna.Study, before: dict[str, Any], own: dict[str, Any]) -> None:
        """Refuses another study; only a metric that no trial was judged by yet may still change."""
        differing = [key for key in own.keys() | before.keys() if own.get(key) != before.get(key)]
        if differing == ["metric"] and all(trial.state is TrialState.RUNNING for trial in study.get_trials()):
            return
        key = sorted(differing)[0]
        raise UserError(
            f"to={self.folder} holds another study: there, {key} is {_shown(before.get(key))}, and here "
            f"{_shown(own.get(key))}. Name another folder, or give what it was begun with"
        )

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Returns the sampler for a trial: what it draws depends on the seed, the number and the trials before."""
        seed = (self._plan.config.seed * 1_000_003 + number) % _SEEDS
        if self._plan.sampler is Sampler.tpe:
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return optuna.samplers.RandomSampler(seed=seed)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes from choosing trials meanwhile."""
        with _waited_for(self.folder / _STUDY_LOCK):
            yield


def load(folder: Path, plan: Plan | None = None) -> optuna.Study:
    """Returns the study in a folder as Optuna has it, with a plan made if there is none yet."""
    journal = folder / JOURNAL
    lock: Any = _JournalLock(folder / _JOURNAL_LOCK)
    if journal.exists():
        with _waited_for(folder / _JOURNAL_LOCK):
            _mend(journal)
    storage = JournalStorage(JournalFileBackend(str(journal), lock))
    if plan is None:
        return optuna.load_study(study_name=_NAME, storage=storage)
    try:
        return optuna.create_study(
            study_name=_NAME,
            storage=storage,
            pruner=_pruner(plan),
            direction="maximize" if plan.maximize else "minimize",
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"{journal} is damaged: {error}") from error


def identity_of(study: optuna.Study) -> dict[str, Any]:
    """Returns what `Plan.identity` was when a study was begun."""
    found: dict[str, Any] = study.user_attrs[_IDENTITY]
    return found


def words_of(trial: FrozenTrial) -> list[str]:
    """Returns the overrides that are a trial's own."""
    found: list[str] = trial.user_attrs[_WORDS]
    return found


def best_of(trials: Sequence[FrozenTrial], maximize: bool) -> FrozenTrial | None:
    """Returns the trial with the best score of those that were not ended early; None without any."""
    ended = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.value is not None]
    return max(ended, key=lambda trial: (trial.value or 0.0) * (1 if maximize else -1), default=None)


def trial_folder(study: Path, number: int) -> Path:
    """Returns where a trial's runs lie."""
    return study / "trials" / f"{number:03d}"


def _part(trial: FrozenTrial) -> Part | None:
    saved = trial.user_attrs.get(_PART)
    return None if saved is None else Part.from_dict(saved)


def _trial_id(study: optuna.Study, number: int) -> int:
    return study.get_trials(deepcopy=False)[number]._trial_id


def _suggested(trial: optuna.Trial, parameter: Parameter) -> float | str:
    each = _distribution(parameter)
    value: float | str
    if isinstance(each, CategoricalDistribution):
        value = str(trial.suggest_categorical(parameter.name, list(each.choices)))
    elif isinstance(each, IntDistribution):
        value = trial.suggest_int(parameter.name, each.low, each.high, step=each.step, log=each.log)
    else:
        assert isinstance(each, FloatDistribution)  # noqa: S101 - there are no others
        value = trial.suggest_float(parameter.name, each.low, each.high, step=each.step, log=each.log)
    return value


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    if parameter.whole:
        step = 1 if parameter.log else round(parameter.step or 1)
        return IntDistribution(round(parameter.low), round(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _typed(values: dict[str, float | str], parameters: Sequence[Parameter]) -> dict[str, float | str]:
    """Returns values as Optuna's distributions hold them."""
    whole = {each.name for each in parameters if each.whole}
    return {name: round(float(value)) if name in whole else value for name, value in values.items()}


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    points = POINTS * plan.settings.seeds
    if plan.pruner is Pruner.median:
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=POINTS // 4)
    if plan.pruner is Pruner.hyperband:
        return optuna.pruners.HyperbandPruner(min_resource=max(1, points // 9), max_resource=points, reduction_factor=3)
    return optuna.pruners.NopPruner()


def _refuse_foreign(folder: Path) -> None:
    """Refuses a folder that holds something else than a study; another process may just be making one."""
    names = {each.name for each in folder.iterdir()}
    if JOURNAL not in names and (foreign := names - set(_LOCKS)):
        raise UserError(f"to={folder} holds something else, such as {min(foreign)}: name a folder of its own")


def _lock(path: Path) -> IO[bytes] | None:
    """Returns a locked file, or None if it is locked already."""
    file = path.open("a+b")
    try:
        lock_file(file)
    except OSError:
        file.close()
        return None
    return file


@contextmanager
def _waited_for(path: Path) -> Iterator[None]:
    while (file := _lock(path)) is None:
        time.sleep(_PAUSE_SECONDS)
    with file:
        yield


class _JournalLock:
    """The lock of Optuna's journal: unlike Optuna's own, no kill leaves it behind, and it needs no links."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        while (file := _lock(self._path)) is None:
            time.sleep(_PAUSE_SECONDS)
        self._file = file
        return True

    def release(self) -> None:
        """Lets go of it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _mend(journal: Path) -> None:
    """Removes a line that a power cut has left in part: what is appended would be part of it."""
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _shown(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 300 else f"{text[:299]}…"
