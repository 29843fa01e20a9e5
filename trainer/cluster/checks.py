"""What is refused of a cluster before anything starts, and how large fragments are. Imports nothing of Ray."""

from __future__ import annotations

import importlib.util
import math

from buffers.fragments import WINDOW
from envs.spec import UserError
from trainer.config.schema import DEFAULT_BEHAVIOR, Mode, TrainConfig, behavior_config, settings_of

LEAST_ROWS, MOST_ROWS = 16, 512
"""Of a fragment. Fewer cost more than they carry; more take no less time each."""
_ANY_AGE_ROWS = 128
"""Of a fragment where rows may be of any age."""


def fragment_size(config: TrainConfig) -> int:
    """Returns how many rows a fragment should have.

    A collector may be a window of fragments ahead of what was taken. All windows together hold half of the rows that
    may be under way before they are too old.
    """
    fresh = [rows for _, rows in _fresh_rows(config)]
    if not fresh:
        return _ANY_AGE_ROWS
    return max(LEAST_ROWS, min(MOST_ROWS, min(fresh) // (2 * WINDOW * config.cluster.collectors)))


def check_cluster(config: TrainConfig) -> None:
    """Refuses, by a UserError, what no cluster could run."""
    cluster = config.cluster
    if config.run.mode is Mode["inline"]:
        raise UserError(
            "run.mode=inline takes turns in one process, to reproduce a run exactly, and cluster=ray collects on other "
            "hosts: leave one of them out"
        )
    if cluster.min_collectors > cluster.collectors:
        raise UserError(
            f"cluster.min_collectors={cluster.min_collectors} is more than cluster.collectors={cluster.collectors}"
        )
    for name, amount in cluster.resources.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < math.inf:
            raise UserError(
                f"cluster.resources.{name}={amount} must be a number, 0 or more: how much of it is asked for"
            )
    if importlib.util.find_spec("ray") is None:
        raise UserError("cluster=ray needs Ray: pip install 'outstep[ray]'")
    for name in _names(config):
        what = "algorithm=poca" if settings_of(config, name)[0].mates else "self_play"
        if what != "self_play" or behavior_config(config, name).self_play.enabled:
            raise UserError(
                f"{what} needs all rows of a game, and its teams, in one place, and cluster=ray collects on several "
                "hosts: leave one of them out"
            )
    _check_ages(config)


def _check_ages(config: TrainConfig) -> None:
    """Refuses more collectors than an algorithm can take rows from that are fresh enough."""
    for name, rows in _fresh_rows(config):
        collectors, window = config.cluster.collectors, WINDOW * LEAST_ROWS
        if rows < (needed := window * collectors):
            prefix = "algorithm" if name == DEFAULT_BEHAVIOR or not config.behaviors else f"behaviors.{name}.algorithm"
            raise UserError(
                f"cluster.collectors={collectors} are too many for rollouts of this size: up to {window} rows of each, "
                f"{needed:,} in all, are under way, and {prefix} drops what is older than {rows:,} rows. Raise "
                f"{prefix}.rollout_size (or {prefix}.max_lag, from 1 on) until their product is {needed:,}, or take "
                "fewer collectors"
            )


def _names(config: TrainConfig) -> list[str]:
    return list(config.behaviors) or [DEFAULT_BEHAVIOR]


def _fresh_rows(config: TrainConfig) -> list[tuple[str, int]]:
    found = ((name, settings_of(config, name)[0].fresh_rows()) for name in _names(config))
    return [(name, rows) for name, rows in found if rows is not None]
