"""One behavior on the learner's host: the rows that hosts deliver, and the weights that they are sent."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from buffers.fragments import Fragment, FragmentWriter
from envs.process.ram import available_memory
from envs.spec import Array, BehaviorSpec
from trainer.cluster.messages import Part
from trainer.config.schema import TrainConfig, behavior_config, settings_of
from trainer.runtime.behaviors import check_networks, open_buffer
from trainer.runtime.ipc import BEFORE, DROPPED, OPEN, SAMPLES, UPDATES, Shared
from trainer.runtime.policy_store import PolicyReader
from trainer.runtime.rate_limiter import RateLimiter
from trainer.telemetry.statistics import Episode


class FarChannel:
    """A behavior whose agents act on other hosts."""

    def __init__(self, spec: BehaviorSpec, config: TrainConfig, shared: Shared, place: int) -> None:
        """`place`: of its memory. UserError if its rows do not fit there."""
        from algorithms.policy import make_policy  # torch takes a second or more, in which hosts start

        settings, _ = settings_of(config, spec.name)
        check_networks(spec, settings, available_memory())
        policy = make_policy(spec, settings)
        self_play = behavior_config(config, spec.name).self_play
        weights, _, rows = open_buffer(shared, policy, spec, settings, self_play)
        self.spec, self.place = spec, place
        self.numbers, self.state_size = policy.flat.numel(), policy.state_size
        self.rate_limiter: RateLimiter | None = None
        """Set once the learner is ready; nothing acts before."""
        self.episodes: list[Episode] = []
        """Finished since they were last sent to the learner."""
        self.writer = FragmentWriter(rows, config.cluster.collectors)
        self._reader = PolicyReader(weights, self.numbers)
        self._interval, self._published = 1 / config.cluster.publish_per_second, -np.inf
        self._flat: Array = np.zeros(0, np.float32)
        self._counters = shared.counters(spec.name)
        self._counters[OPEN] = 0
        self._count()

    def may_pull(self) -> bool:
        """Returns whether the learner keeps up well enough for more rows to be asked for."""
        return self.rate_limiter is not None and self.rate_limiter.may_write(*self._progress())

    def may_update(self) -> bool:
        """Returns whether an update is due: the learner, if it waits, should be woken."""
        return self.rate_limiter is not None and self.rate_limiter.may_update(*self._progress())

    def add(self, source: int, part: Part) -> int:
        """Appends the rows of a collector; returns how many were lost before them. ValueError if they are none."""
        lost = self.writer.add(source, Fragment(part.number, part.length, part.data))
        self._count()
        return lost

    def count_open(self, steps: int) -> None:
        """Takes the number of unfinished steps on all hosts."""
        self._counters[OPEN] = steps

    def weights(self, known: int) -> Part | None:
        """Returns the newest weights for a host that has those of version `known`; None if it needs none."""
        now = time.monotonic()
        if now >= self._published + self._interval and self._reader.latest != self._reader.version:
            flat = np.empty(self.numbers, np.float32)  # the one before may be on its way
            self._reader.refresh(flat)
            self._flat, self._published = flat, now
        version = self._reader.version
        if version == known or not version:
            return None
        return Part("weights", self.spec.name, version, self.numbers, self._flat.data.cast("B"))

    def ready(self) -> list[Any]:
        """Returns what a host has to know to open its memory."""
        return [self.spec.name, self.numbers, self.state_size]

    def _progress(self) -> tuple[int, int]:
        return self.writer.rows.sampleable - int(self._counters[DROPPED]), int(self._counters[UPDATES])

    def _count(self) -> None:
        self._counters[SAMPLES] = self._counters[BEFORE] + self.writer.rows.samples
