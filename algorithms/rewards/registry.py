"""The reward signals by name, and the sum of those that settings ask for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from algorithms.rewards.settings import SignalSettings
from algorithms.settings import settings_class, typed
from envs.config import path_field
from envs.imports import Registry, imported
from envs.spec import UserError

if TYPE_CHECKING:  # torch takes seconds, and whoever only checks settings does without
    from algorithms.policy import Policy
    from algorithms.rewards.base import Rewards, RewardSignal, ValueOf
    from buffers.rows import Rows

REWARDS: Registry[Any] = Registry(
    "reward signal",
    "outstep.rewards",
    {
        "extrinsic": "algorithms.rewards.settings:ExtrinsicSettings",
        "gail": "algorithms.rewards.settings:GAILSettings",
        "curiosity": "algorithms.rewards.settings:CuriositySettings",
        "rnd": "algorithms.rewards.settings:RNDSettings",
    },
)
"""Settings classes, derived from `SignalSettings`; installed packages may name the signal's class itself."""
EXTRINSIC = "extrinsic"
"""The environment's own reward, which no signal computes."""

RewardSettings = Mapping[str, SignalSettings]
"""The settings of each signal, by its name. The weighted sum of the signals is learned from."""


@dataclass
class CustomSignalSettings(SignalSettings):
    """A reward signal of the user's own by its import path (docs/extending.md)."""

    path: str | None = path_field()
    """Its class, `package.module:Class`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Whatever else its class can be set, by the names of its `Settings`; they may also stand beside `path`."""

    def own(self, prefix: str) -> SignalSettings:
        """Returns the settings that the class is made with: those of its own, and those of every signal."""
        kind = settings_class(imported(str(self.path), f"{prefix}.path"), SignalSettings, f"{prefix}.path={self.path}")
        return typed(kind, {"strength": self.strength, "discount": self.discount}, self.settings, prefix)

    def validate(self, prefix: str) -> None:
        """Checks that the path names a reward signal, and its settings as the class does; raises UserError."""
        super().validate(prefix)
        signal_class("", self, prefix)
        self.own(prefix).validate(prefix)

    @staticmethod
    def gathered(given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what was given with all keys that are the class's own below `settings`."""
        known = {each.name for each in fields(CustomSignalSettings)}
        others = {key: value for key, value in given.items() if key not in known}
        rest = {key: value for key, value in given.items() if key in known}
        return {**rest, "settings": {**(rest.get("settings") or {}), **others}}


def default_rewards() -> dict[str, SignalSettings]:
    """Returns the settings of the built-in signals, of which only the environment's own reward pays."""
    return {name: REWARDS.find(name, "reward")() for name in REWARDS.built_in()}


def signal_settings(name: str, given: Mapping[str, Any], key: str) -> type[SignalSettings]:
    """Returns a signal's settings class, for what was `given` below `key`; UserError if there is none, and no path."""
    if "path" in given:
        return CustomSignalSettings
    known = REWARDS.names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {key[: -len(name)]}{close[0]}? " if close else ""
        adds = f"{key}.path=package.module:Class adds one"
        raise UserError(f"unknown key {key}; {meant}there is {', '.join(known)}, and {adds}")
    return settings_class(REWARDS.find(name, key), SignalSettings, key)


def validate_rewards(rewards: RewardSettings, discount: float, prefix: str = "") -> None:
    """Checks all signals, also against the `discount` of the algorithm that learns from them.

    `prefix` is where the behavior's settings stand in the configuration, with the dot behind it. Raises UserError.
    """
    for name, settings in rewards.items():
        settings.validate(f"{prefix}reward.{name}")
        if name == EXTRINSIC or not settings.pays or discount_of(settings, discount) < 1:
            continue
        key = f"{prefix}algorithm.discount={discount} with {prefix}reward.{name}"
        if settings.discount is not None:
            key = f"{prefix}reward.{name}.discount={settings.discount}"
        raise UserError(f"{key}: after an end the value is reward / (1 - discount), so the discount has to be below 1")


def discount_of(settings: SignalSettings, discount: float) -> float:
    """Returns the discount of a signal, which may be the algorithm's."""
    return discount if settings.discount is None else settings.discount


def signal_class(name: str, settings: SignalSettings, key: str) -> type[RewardSignal]:
    """Returns the class of a signal; UserError if `settings` lead to none."""
    from algorithms.rewards.base import RewardSignal

    path = settings.signal or getattr(settings, "path", None)
    found = imported(path, f"{key}.path") if path else REWARDS.find(name, key)
    if not (isinstance(found, type) and issubclass(found, RewardSignal)):
        raise UserError(f"{key}: {path or name} must be a class that derives from algorithms.rewards.base.RewardSignal")
    if missing := ", ".join(sorted(found.__abstractmethods__)):
        raise UserError(f"{key}: {path or name} lacks {missing}")
    return found


def make_rewards(
    rewards: RewardSettings,
    policy: Policy,
    demos: Mapping[str, Rows],
    seed: int,
    discount: float,
    normalize: bool = False,
    value_of: ValueOf = "sum",
) -> Rewards:
    """Returns the signals that pay, with the algorithm's `discount`; `demos` holds, by path, what they learn from.

    See `Rewards` for the last two. Raises UserError if a signal cannot be made, or its discount serves no value.
    """
    from algorithms.metrics import words_of
    from algorithms.rewards.base import Rewards

    signals: dict[str, RewardSignal] = {}
    extrinsic = rewards.get(EXTRINSIC, SignalSettings())
    discounts = {EXTRINSIC: discount_of(extrinsic, discount)}
    for name, settings in rewards.items():
        if name == EXTRINSIC or not settings.pays:
            continue
        key = f"reward.{name}"
        kind, own = signal_class(name, settings, key), settings.own(key)
        discounts[name] = discount_of(settings, discount)
        try:
            signals[name] = kind(name, own, policy, demos, seed)
        except Exception as error:
            if settings.signal or isinstance(error, UserError):
                raise  # ours, or it says itself what it does not do
            raise UserError(f"{key}: {kind.__qualname__} cannot be made ({words_of(error)})") from error
    other = [name for name in discounts if discounts[name] != discount]
    if other and value_of == "sum":
        raise UserError(
            f"reward.{other[0]}.discount={discounts[other[0]]}: this algorithm learns one value, of "
            f"algorithm.discount={discount}; ppo and sac take signals of several"
        )
    weighed = discount, list(discounts.values()), normalize, value_of
    return Rewards(extrinsic.strength, signals, policy.flat.device, *weighed)
