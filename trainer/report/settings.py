"""The settings of a run, and which of them differ from the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from trainer.config.saved import as_dict, as_written
from trainer.config.schema import BehaviorStopConfig, GoalConfig, TrainConfig

Row = tuple[str, str, str]
"""A dotted key, its value, and its default; as YAML writes them."""


def chosen_settings(config: TrainConfig) -> list[Row]:
    """Returns settings that are not the defaults, in the order of the schema."""
    rewards = {name: type(signal)() for name, signal in config.reward.items()}
    plain = TrainConfig(env=type(config.env)(), algorithm=type(config.algorithm)(), reward=rewards)
    written = as_written(config)
    behaviors = written.pop("behaviors")
    rows = differences(written, as_written(plain))
    for name, behavior in config.behaviors.items():
        alike = type(behavior.algorithm) is type(config.algorithm)
        algorithm = written["algorithm"] if alike else as_dict(type(behavior.algorithm)())
        plain_behavior = {"stop": as_dict(BehaviorStopConfig()), "goal": as_dict(GoalConfig()), "init": None}
        above = {"algorithm": algorithm, "reward": written["reward"], **plain_behavior}
        rows += [(f"behaviors.{name}.{row[0]}", *row[1:]) for row in differences(behaviors[name], above)]
    return [row for row in rows if not row[0].startswith(_NOT_CHOSEN)]


def differences(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[Row]:
    """Returns the settings that differ from `others`, or that `others` do not have."""
    defaults = dict(_leaves(others))
    return [
        (key, _text(value), _text(defaults[key]) if key in defaults else "")
        for key, value in _leaves(settings)
        if key not in defaults or defaults[key] != value
    ]


def settings_by_key(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns all settings by their dotted keys, as a command line takes them."""
    return {key: _text(value) for key, value in _leaves(settings)}


def _leaves(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _text(value: Any) -> str:
    """Returns a value as a command line takes it."""
    if value == "???":
        return ""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


_NOT_CHOSEN = ("run.choices", "run.overrides", "run.dir", "run.name", "resume")
"""Filled in by the trainer, or shown elsewhere on the page."""
