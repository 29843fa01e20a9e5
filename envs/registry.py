"""The kinds of environments, by the name of their config group's choice."""

from __future__ import annotations

from typing import Any

from envs.imports import Registry

ENVS: Registry[Any] = Registry(
    "kind of environment",
    "outstep.envs",
    {"gym": "trainer.config.schema:GymConfig", "unity": "trainer.config.schema:UnityConfig"},
)
"""Settings classes, dataclasses derived from `EnvConfig`."""
