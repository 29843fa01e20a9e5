"""What is searched: settings with ranges and choices, in Hydra's own syntax."""

from __future__ import annotations

import difflib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from envs.spec import UserError
from trainer.config.aliases import without_behavior
from trainer.config.command import parse_overrides
from trainer.config.compose import readable
from trainer.config.meanings import list_settings
from trainer.config.schema import TrainConfig
from trainer.data_files import parse_yaml, read_data

SPACES = Path(__file__).parent / "spaces"
"""The folder of our spaces."""
_LOG = "log"
_DIGITS = 12
"""Significant digits of numbers in steps, which would be 0.30000000000000004 else."""
_RESAMPLED = 0.25
"""Share of the settings that `perturbed` draws anew (arXiv 1711.09846)."""
_FACTORS = (0.8, 1.2)


@dataclass(frozen=True)
class Parameter:
    """A setting that differs between trials: one of `choices`, or, without any, a number from `low` to `high`."""

    key: str
    """As Hydra takes it, such as `+env.kwargs.size`."""
    choices: tuple[str, ...] = ()
    """Values, as they are written."""
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    """Distance of two numbers; None = any number. Of whole ones it is 1 or more."""
    whole: bool = False
    """Whether it is a whole number."""
    log: bool = False
    """Whether each power of ten is equally likely."""

    @property
    def name(self) -> str:
        """The key of the setting."""
        return self.key.lstrip("+")

    def word(self, value: float | str) -> str:
        """Returns the override that gives the setting a value."""
        return f"{self.key}={self.text(value)}"

    def text(self, value: float | str) -> str:
        """Returns a value as Hydra reads it."""
        if isinstance(value, str):
            return value
        if self.whole:
            return str(round(value))
        return repr(float(value)) if self.step is None else f"{value:.{_DIGITS}g}"

    def ends(self) -> list[float | str]:
        """Returns values of which all others are right if these are: the ends, or all choices."""
        return list(self.choices) or [self.low, self.high]

    def listed(self) -> list[float | str]:
        """Returns all values; UserError if they have no end."""
        if self.choices:
            return list(self.choices)
        if self.step is None:
            raise UserError(f"{self.key} has an interval, of which there are no combinations: sampler=grid takes lists")
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + place * self.step for place in range(count)]

    def perturbed(self, value: float | str, draw: random.Random) -> float | str:
        """Returns a value near another: a fifth less or more, the choice beside it, or now and then any."""
        if draw.random() < _RESAMPLED:
            return self._any(draw)
        if isinstance(value, str):
            if not all(map(_is_number, self.choices)):
                return value
            ordered = sorted(self.choices, key=float)
            place = ordered.index(value) + draw.choice((-1, 1))
            return ordered[min(max(place, 0), len(ordered) - 1)]
        changed = value * draw.choice(_FACTORS)
        if self.whole and round(changed) == value:
            changed = value + draw.choice((-1, 1))
        return self._within(changed)

    def _any(self, draw: random.Random) -> float | str:
        if self.choices:
            return draw.choice(self.choices)
        if self.log:
            return self._within(math.exp(draw.uniform(math.log(self.low), math.log(self.high))))
        return self._within(draw.uniform(self.low, self.high))

    def _within(self, value: float) -> float:
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value


def read_space(words: Sequence[str], space: str | None) -> tuple[list[str], list[Parameter]]:
    """Returns the overrides with one value, and what is searched: the others, and those of a file `space`.

    A setting that stands in both is what the words say.

    Raises:
        UserError: something cannot be read, or is no range.
    """
    fixed: dict[str, str] = {}
    found: dict[str, Parameter] = {}
    given = [*(_of_file(space) if space else ()), *words]
    parsed = parse_overrides([readable(word, TrainConfig) for word in given], TrainConfig)
    for word, (override, listed) in zip(given, parsed):
        name = override.get_key_element().lstrip("+")
        fixed.pop(name, None)
        found.pop(name, None)
        if override.is_sweep_override():
            found[name] = _parameter(word, override, listed)
        else:
            fixed[name] = word
    return list(fixed.values()), list(found.values())


def combinations(parameters: Sequence[Parameter]) -> Iterator[dict[str, float | str]]:
    """Yields all combinations of values by name, the last changing fastest; UserError if there is no end of them."""
    names = [each.name for each in parameters]
    for values in itertools.product(*(each.listed() for each in parameters)):
        yield dict(zip(names, values))


def _parameter(line: str, override: Override, listed: list[str] | None) -> Parameter:
    key, value = line.partition("=")[0], override.value()
    tags = set(getattr(value, "tags", ()))
    if wrong := tags - {_LOG}:
        raise UserError(f"{line}: the only tag is {_LOG}, not {', '.join(sorted(map(str, wrong)))}")
    log = bool(tags)
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        whole = whole or _takes_whole(key.lstrip("+"))
        low, high = float(value.start or 0), float(value.end or 0)
        if whole:
            low, high = math.ceil(low), math.floor(high)
        _check_range(line, low, high, log)
        return Parameter(key, (), low, high, 1 if whole else None, whole, log)
    if isinstance(value, RangeSweep) and not value.shuffle and listed:
        low, step = float(value.start or 0), float(value.step)
        whole = all(isinstance(each, int) for each in (value.start, value.stop, value.step))
        high = low + (len(listed) - 1) * step
        if step < 0:
            low, high, step = high, low, -step
        _check_range(line, low, high, log)
        return Parameter(key, (), low, float(f"{high:.{_DIGITS}g}"), step, whole, False)
    if not listed:
        raise UserError(f"{line} holds no values")
    if log:
        raise UserError(f"{line}: tag(log,...) is for interval(...)")
    return Parameter(key, tuple(dict.fromkeys(listed)))


def _check_range(line: str, low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{line}: a range goes from a smaller number to a larger one")
    if log and low <= 0:
        raise UserError(f"{line}: tag(log,...) needs numbers above 0")


def _takes_whole(name: str) -> bool:
    """Returns whether a setting takes whole numbers alone."""
    kinds = _kinds().get(without_behavior(name), set())
    return bool(kinds) and all(kind.startswith("integer") for kind in kinds)


@cache
def _kinds() -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for group in list_settings(TrainConfig):
        for each in group.settings:
            kinds.setdefault(each.key, set()).add(each.kind)
    return kinds


def _of_file(space: str) -> list[str]:
    """Returns the overrides in the YAML file of a space, ours or a user's; UserError if there is none."""
    ours = sorted(file.stem for file in SPACES.glob("*.yaml"))
    file = SPACES / f"{space}.yaml" if space in ours else Path(space).expanduser()
    if not file.is_file():
        close = difflib.get_close_matches(space, ours, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"space={space}: {meant}there is {', '.join(ours)}, and YAML files of your own")
    try:
        content = parse_yaml(read_data(file))
        if not isinstance(content, dict) or not content:
            raise ValueError("it holds no settings")
    except (OSError, ValueError) as error:
        raise UserError(f"space={space} cannot be read: {error}") from error
    return [f"{key}={_written(value)}" for key, value in content.items()]


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
