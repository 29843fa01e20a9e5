"""Fields of settings, where a range stands beside its field, and the settings that all kinds of environments share.

Settings are dataclasses. `setting(3e-4, above=0)` is a field with a range; `path_field()` is one that takes any string.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from envs.spec import BehaviorSpec, UserError

if TYPE_CHECKING:
    from typing_extensions import Self

    from envs.api import Manager, Setup
    from envs.gym.adapter import GymEnv
    from envs.parameters import Parameters

# Made by call because `async`, the word that users write, cannot be a name in Python.
Stepping = Enum("Stepping", ["async", "lockstep"])
"""`async`: no instance waits for another. `lockstep`: all step together, for comparison."""


def setting(
    default: Any = MISSING,
    *,
    default_factory: Callable[[], Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Returns a field whose value, or each element of a list, lies within a range; None is always allowed."""
    range_ = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"range": {key: bound for key, bound in range_.items() if bound is not None}}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def path_field(default: Any = None) -> Any:
    """Returns a field, null by default, that takes any string on the command line without quotes for Hydra."""
    return field(default=default, metadata={"path": True})


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Checks the values of a dataclass, and of those within it, against the ranges beside their fields.

    `prefix` is where the settings stand in the configuration, without a dot behind it. Raises UserError if a value is
    out of its range, NaN, or infinite.
    """
    for each in fields(settings):
        value = getattr(settings, each.name)
        key = f"{prefix}.{each.name}" if prefix else each.name
        if is_dataclass(value):
            check_ranges(value, key)
        elif isinstance(value, dict):
            for name, element in value.items():
                if is_dataclass(element):
                    check_ranges(element, f"{key}.{name}")
        elif isinstance(value, list):
            for i, element in enumerate(value):
                _check(f"{key}[{i}]", element, each.metadata.get("range"))
        else:
            _check(key, value, each.metadata.get("range"))


@dataclass
class EnvConfig(ABC):
    """The environment and how its instances are stepped: what all kinds of environments have in common.

    A kind adds its own fields and `make_manager`. It answers for itself: the other methods say what a kind can do, and
    a kind that can do more than these overrides them.
    """

    # Not frozen, as nothing that a config group chooses: OmegaConf would refuse the group's YAML.

    instances: int = setting(16, above=0, at_most=2**16)
    """Running environments. More: more samples a second, until cores run out. Usual: 4 to 64."""
    time_scale: float = setting(20.0, at_least=0)
    """How much faster than real time games run; 0 = they never wait, if they report their steps' durations. Usual: 1 to
    100."""
    stepping: Stepping = Stepping["async"]
    """`async`: no instance waits for another. `lockstep`: all step together, for comparison."""
    step_timeout: float = setting(60.0, above=0)
    """Seconds after which an instance that does not answer is restarted. Usual: 10 to 300."""
    restarts: int = setting(10, at_least=0)
    """Restarts that each instance may have at once; one more comes back every ten minutes."""
    min_instances: int = setting(1, above=0)
    """Instances that have to live: one that needs more restarts than it has is left out while so many others live; else
    the run ends."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Environment parameters by name: a number, `{sampler: uniform, min: 0, max: 1}`, or `{lessons: [...]}`."""

    reproducible: ClassVar[bool] = False
    """Whether the same seed and actions give the same episodes, and `Manager.state` holds open ones: inline mode."""
    channels_last: ClassVar[bool] = False
    """Whether exported models take images as (height, width, channels)."""
    sends_statistics: ClassVar[bool] = False
    """Whether games report numbers at any time (`Manager.take_statistics`), not only at an episode's end."""
    takes_parameters: ClassVar[bool] = False
    """Whether games are given `parameters`."""

    @abstractmethod
    def make_manager(self, setup: Setup) -> Manager:
        """Returns the manager of the instances, not started; UserError if a file or a library is missing."""

    def make_surveyed(self, setup: Setup) -> tuple[Manager, Callable[[], list[str]]]:
        """Returns a manager for `outstep check`, and what returns, once it has played, lines of what else it got."""
        return self.make_manager(setup), list

    @property
    def label(self) -> str:
        """What is played, in words."""
        return type(self).__name__

    @property
    def behavior_names(self) -> list[str]:
        """Names of the behaviors, where they are known before anything runs; else none."""
        return []

    @property
    def rows_at_once(self) -> int:
        """How many agents may ask for actions together, roughly."""
        return self.instances

    def check(self) -> None:
        """Refuses what can be refused before anything starts: by a UserError for the first thing that is wrong."""
        check_ranges(self, "env")
        if self.read_parameters() and not self.takes_parameters:
            raise UserError(f"env.parameters.{next(iter(self.parameters))}: {self.label} takes no parameters")

    def read_parameters(self) -> Parameters:
        """Returns `parameters` as a manager uses them; UserError for the first that is wrong."""
        from envs.parameters import Parameters

        return Parameters(self.parameters)

    def probe_specs(self, seed: int) -> list[BehaviorSpec]:
        """Returns the specs of all behaviors, which may take a moment and a process; none where they are not known."""
        return []

    def spaces(self, seed: int) -> dict[str, dict[str, Any]]:
        """Returns by behavior the Gymnasium spaces of `probe_specs`, as JSON can hold them; none where there are none.

        Each has `observation` and `action`, which `envs.gym.saved_spaces` reads.
        """
        return {}

    def for_evaluation(self, instances: int) -> Self:
        """Returns the same environment as evaluation plays it."""
        return replace(self, instances=instances)

    def filmed(self, folder: Path) -> Self:
        """Returns the same, whose episodes leave videos in `folder` as of `envs.gym.video`; UserError if none can."""
        raise UserError(f"video=true: {self.label} cannot be filmed")

    def with_files(self, folders: Mapping[str, Path]) -> Self:
        """Returns the same with the files of a managed job, in `folders` by name; UserError if it lacks something."""
        return self

    def gym_env(self) -> GymEnv | None:
        """Returns how to make one as a Gymnasium environment, for bots and people to play; None where there is none."""
        return None


def _check(key: str, value: Any, range_: dict[str, float] | None) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if range_ and not all(_COMPARISONS[name](value, bound) for name, bound in range_.items()):
        raise UserError(f"{key}={value} must {_described(range_)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value} must be a finite number")


_COMPARISONS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


def _described(range_: dict[str, float]) -> str:
    if range_.keys() == {"at_least", "at_most"}:
        return f"lie between {range_['at_least']} and {range_['at_most']}"
    if range_.keys() == {"above", "below"}:
        return f"lie between {range_['above']} and {range_['below']}, both excluded"
    return "be " + " and ".join(f"{name.replace('_', ' ')} {bound}" for name, bound in range_.items())
