"""The learner of one behavior: updates its algorithm as the rate_limiter allows, and publishes what it learns."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from algorithms.base import Algorithm
from buffers.rows import Rows
from buffers.snapshot import Snapshot
from envs.spec import Array, BehaviorSpec, UserError
from trainer.runtime.ipc import BEFORE, DROPPED, SAMPLES, UPDATES
from trainer.runtime.policy_store import PolicyWriter
from trainer.runtime.rate_limiter import RateLimiter

PREPARED_AT_ONCE, PREPARED_SECONDS = 20, 0.5
"""Updates before the first sample, or seconds of them, between two looks at what else is to be done."""


class Learner:
    """One behavior's algorithm on its rows, and the weights that actors take."""

    def __init__(
        self, spec: BehaviorSpec, algorithm: Algorithm, rows: Rows, weights: PolicyWriter, counters: Array
    ) -> None:
        self.spec = spec
        self.algorithm = algorithm
        self.rows = rows
        self.seconds = 0.0
        """Spent in updates."""
        self.rate_limiter = RateLimiter(algorithm.updates_per_sample, algorithm.start_samples, algorithm.tolerance)
        self._weights = weights
        self._counters = counters
        counters[BEFORE] = counters[SAMPLES] - rows.samples

    def samples(self, snapshot: Snapshot | None = None) -> int:
        """Samples in all, those of earlier parts of a resumed run included: now, or when `snapshot` was taken."""
        return int(self._counters[BEFORE]) + (self.rows if snapshot is None else snapshot).samples

    @property
    def usable_samples(self) -> int:
        """Rows that could be drawn since the start, less those that came too late to be used."""
        return self.rows.sampleable - self.algorithm.dropped

    def prepare(self) -> bool:
        """A stretch of what is learned before the first sample; False once nothing is left of it."""
        cloning = self.algorithm.cloning
        if cloning is None or not cloning.updates_left:
            return False
        start = time.perf_counter()
        for _ in range(min(cloning.updates_left, PREPARED_AT_ONCE)):
            cloning.update()
            if time.perf_counter() > start + PREPARED_SECONDS:
                break
        self.seconds += time.perf_counter() - start
        if not cloning.updates_left:
            self.publish()
        return True

    def due(self) -> bool:
        """Whether an update is."""
        return self.rate_limiter.may_update(self.usable_samples, self.algorithm.updates)

    def update(self) -> None:
        """One update, its schedules moved on before and its policy published after if it is time to."""
        start = time.perf_counter()
        if self.algorithm.updates % self.algorithm.publish_every == 0:
            self.algorithm.set_progress(int(self._counters[SAMPLES]))
        self.algorithm.update()
        self._count()
        if self.algorithm.updates % self.algorithm.publish_every == 0:
            self.publish()
        self.seconds += time.perf_counter() - start

    def publish(self) -> None:
        """Hands the policy to the actors, as version `updates` + 1.

        Raises:
            UserError: a weight is NaN or infinite; actors keep what they have.
        """
        self._count()
        flat = self._flat()
        if not (finite := np.isfinite(flat)).all():
            place = int(finite.argmin())
            raise UserError(
                f"behavior {self.spec.name!r}: weight {place} of its policy is {flat[place]} after "
                f"{self.algorithm.updates} updates, so it cannot act any more: lower algorithm.learning_rate, or mend "
                "the algorithm if it is your own"
            )
        self._weights.publish(flat, self.algorithm.updates + 1)

    @property
    def finite(self) -> bool:
        """Whether all weights of the policy are numbers."""
        return bool(np.isfinite(self._flat()).all())

    def state_dict(self) -> dict[str, Tensor]:
        """The algorithm's, where counts began, and what actors have: not always the newest, not each is published."""
        published, version = self._weights.published()
        actors = {"published/policy": torch.from_numpy(published), "published/version": torch.tensor(version)}
        origin = torch.tensor([self.rate_limiter.origin_samples, self.rate_limiter.origin_updates])
        return {**self.algorithm.state_dict(), **actors, "limiter/origin": origin}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave, and publishes what actors had."""
        published, version = state.pop("published/policy", None), state.pop("published/version", None)
        # Earlier versions did not save it, and never knew another.
        samples, updates = state.pop("limiter/origin", torch.zeros(2, dtype=torch.int64)).tolist()
        self.rate_limiter = replace(self.rate_limiter, origin_samples=samples, origin_updates=updates)
        self.algorithm.load_state_dict(state)
        self._count()
        if published is None or version is None:  # saved by an earlier version
            self.publish()
        else:
            self._weights.publish(published.numpy(), int(version))

    def restart_counting(self) -> None:
        """After a resume without the replay: the rows fill anew, and nothing is owed for those that are gone."""
        self.rate_limiter = replace(
            self.rate_limiter, origin_samples=self.usable_samples, origin_updates=self.algorithm.updates
        )

    def _flat(self) -> Array:
        flat: Array = self.algorithm.policy.flat.detach().cpu().numpy()
        return flat

    def _count(self) -> None:
        self._counters[DROPPED] = self.algorithm.dropped
        self._counters[UPDATES] = self.algorithm.updates

    @property
    def achieved_ratio(self) -> float:
        """Updates made of those that the samples so far asked for; 1 before any is."""
        asked = self.rate_limiter.due_updates(self.usable_samples) - self.rate_limiter.origin_updates
        return (self.algorithm.updates - self.rate_limiter.origin_updates) / asked if asked > 0 else 1.0
