"""The learner of one behavior: updates its algorithm as the rate limiter allows, and publishes its policy."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from algorithms.base import Algorithm, make_algorithm
from algorithms.policy import make_policy
from buffers.rows import Rows
from buffers.snapshot import Snapshot, restore
from envs.spec import Array, BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint
from trainer.config.schema import TrainConfig, behavior_config
from trainer.demos.load import Digests, changed_demos, load_demos
from trainer.runtime.behaviors import describe_buffer, open_buffer
from trainer.runtime.ipc import BEFORE, DROPPED, SAMPLES, UPDATES, Shared
from trainer.runtime.policy_store import PolicyWriter
from trainer.runtime.rate_limiter import RateLimiter
from trainer.runtime.stop import still_ended
from trainer.selfplay.ratings import Ratings
from trainer.selfplay.snapshots import Snapshots
from trainer.telemetry.console import log
from trainer.telemetry.constant import ConstantObservations
from trainer.telemetry.diagnosis import CONSTANT
from trainer.warm_start.load import load_init

_NEVER = RateLimiter(1.0, 2**62, 1.0)
"""Asks for no update, whatever there is to learn from."""
_SNAPSHOT = "self_play/snapshot_"
"""Before a snapshot's number, in a checkpoint."""
_PREPARE_UPDATES, _PREPARE_SECONDS = 20, 0.5
"""`prepare` makes so many updates, or spends so many seconds, before it returns."""


class Learner:
    """One behavior's algorithm, the rows that it learns from, and the weights that actors take."""

    def __init__(
        self,
        spec: BehaviorSpec,
        algorithm: Algorithm,
        rows: Rows,
        weights: PolicyWriter,
        counters: Array,
        demos: Digests,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.snapshots = snapshots
        """Of its policy, where there is self-play."""
        self.ratings: Ratings | None = None
        """Its rating and those of its opponents, where there is self-play."""
        self.spec, self.algorithm, self.rows, self.demos = spec, algorithm, rows, demos
        self.seconds = 0.0
        """Seconds spent in updates so far."""
        self.ended: tuple[str, float | str] | None = None
        """The setting that has ended its learning, and its value: its agents act on."""
        self.rate_limiter = RateLimiter(algorithm.updates_per_sample, algorithm.start_samples, algorithm.tolerance)
        self._weights = weights
        self._counters = counters
        self._constant = ConstantObservations(rows)
        self._read = 0, 0
        """Samples that could be drawn and those dropped, when metrics were last read."""
        counters[BEFORE] = counters[SAMPLES] - rows.samples

    def samples(self, snapshot: Snapshot | None = None) -> int:
        """Returns the samples in all, earlier parts of a resumed run included: now, or when `snapshot` was taken."""
        return int(self._counters[BEFORE]) + (self.rows if snapshot is None else snapshot).samples

    @property
    def usable_samples(self) -> int:
        """The rows that could be drawn since the start, less those that were dropped as too old."""
        return self.rows.sampleable - self.algorithm.dropped

    def prepare(self) -> bool:
        """Makes some of the updates that come before the first sample; returns False once none is left."""
        cloning = self.algorithm.cloning
        if cloning is None or not cloning.updates_left:
            return False
        start = time.perf_counter()
        for _ in range(min(cloning.updates_left, _PREPARE_UPDATES)):
            cloning.update()
            if time.perf_counter() > start + _PREPARE_SECONDS:
                break
        self.seconds += time.perf_counter() - start
        if not cloning.updates_left:
            self.publish()
        return True

    @property
    def updates(self) -> int:
        """Updates so far, those of earlier parts of a resumed run included."""
        return self.algorithm.updates

    def update_due(self) -> bool:
        """Returns whether the rate limiter allows an update now."""
        return self.rate_limiter.may_update(self.usable_samples, self.algorithm.updates)

    def update(self) -> None:
        """Makes an update. Once in `publish_every`, schedules move on before it and the policy is published after."""
        start = time.perf_counter()
        if self.algorithm.updates % self.algorithm.publish_every == 0:
            self.algorithm.set_progress(int(self._counters[SAMPLES]))
        self.algorithm.update()
        self._write_counters()
        if self.algorithm.updates % self.algorithm.publish_every == 0:
            self.publish()
        self.seconds += time.perf_counter() - start

    def publish(self) -> None:
        """Publishes the policy to the actors, as version `updates` + 1; UserError if a weight is NaN or infinite."""
        self._write_counters()
        flat = self._flat()
        if not (finite := np.isfinite(flat)).all():
            place = int(finite.argmin())
            raise UserError(
                f"behavior {self.spec.name!r}: weight {place} of its policy is {flat[place]} after "
                f"{self.algorithm.updates} updates, so it cannot act any more: lower algorithm.learning_rate, or mend "
                "the algorithm if it is your own"
            )
        self._weights.publish(flat, self.algorithm.updates + 1)

    def published(self) -> Array:
        """Returns the policy that actors have, a vector."""
        return self._weights.published()[0]

    @property
    def finite(self) -> bool:
        """Whether all weights of the policy are finite."""
        return bool(np.isfinite(self._flat()).all())

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the algorithm's state, the weights that actors have, which may be older, and where counts began."""
        published, version = self._weights.published()
        actors = {"published/policy": torch.from_numpy(published), "published/version": torch.tensor(version)}
        origin = torch.tensor([self.rate_limiter.origin_samples, self.rate_limiter.origin_updates])
        past: dict[str, Tensor] = {}
        if self.snapshots is not None and self.ratings is not None:
            kept = self.snapshots.kept(self.ratings.window())
            past = {f"{_SNAPSHOT}{number}": torch.from_numpy(flat) for number, flat in kept.items()}
        return {**self.algorithm.state_dict(), **actors, "limiter/origin": origin, **past}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues from what `state_dict` returned, and publishes the weights that actors had."""
        published, version = state.pop("published/policy").numpy(), int(state.pop("published/version"))
        samples, updates = state.pop("limiter/origin").tolist()
        past = {int(key[len(_SNAPSHOT) :]): state.pop(key).numpy() for key in [*state] if key.startswith(_SNAPSHOT)}
        if self.snapshots is not None:
            for number, flat in sorted(past.items()):
                self.snapshots.add(number, flat, past)
        self.rate_limiter = replace(self.rate_limiter, origin_samples=samples, origin_updates=updates)
        self.algorithm.load_state_dict(state)
        self._write_counters()
        self._weights.publish(published, version)

    def end(self, by: tuple[str, float | str]) -> None:
        """Lets it learn no more, and games never wait for it."""
        self.ended, self.rate_limiter = by, _NEVER

    def restart_counting(self) -> None:
        """Lets the rate limiter count from here, after a resume without the replay: lost rows ask for no updates."""
        self.rate_limiter = replace(
            self.rate_limiter, origin_samples=self.usable_samples, origin_updates=self.algorithm.updates
        )

    def metrics(self) -> dict[str, float]:
        """Returns the algorithm's metrics since they were last read, and the counts of its updates."""
        constant = self._constant.look()
        before, (sampleable, dropped) = self._read, (self.rows.sampleable, self.algorithm.dropped)
        self._read = sampleable, dropped
        return {
            **self.algorithm.metrics(),
            "observations/constant": len(constant),
            **{f"{CONSTANT}{name}": 1.0 for name in constant},
            "update/dropped_share": (dropped - before[1]) / max(1, sampleable - before[0]),
            "update/achieved": self.achieved_ratio,
            "update/count": self.algorithm.updates,
            "update/dropped_samples": self.algorithm.dropped,
            **(self.ratings.scalars() if self.ratings is not None else {}),
        }

    @property
    def achieved_ratio(self) -> float:
        """The share of updates made of those that the samples so far asked for; 1 before any is."""
        origin = self.rate_limiter.origin_updates
        due = self.rate_limiter.due_updates(self.usable_samples) - origin
        return (self.algorithm.updates - origin) / due if due > 0 else 1.0

    def _flat(self) -> Array:
        flat: Array = self.algorithm.policy.flat.detach().cpu().numpy()
        return flat

    def _write_counters(self) -> None:
        self._counters[DROPPED] = self.algorithm.dropped
        self._counters[UPDATES] = self.algorithm.updates


def make_learner(
    config: TrainConfig, spec: BehaviorSpec, shared: Shared, device: torch.device, saved: Checkpoint | None
) -> Learner:
    """Makes the learner of a behavior, from the checkpoint `saved` if that holds it.

    Raises:
        UserError: the rows do not fit into memory, or demonstrations or a checkpoint do not fit the behavior.
    """
    name = spec.name
    chosen = behavior_config(config, name)
    settings = chosen.algorithm
    before = saved.state["behaviors"].get(name) if saved else None
    kept = before.get("rows") if before else None  # earlier versions did not say
    kept = kept if isinstance(kept, int) else None
    policy = make_policy(spec, settings)
    weights, snapshots, rows = open_buffer(shared, policy, spec, settings, chosen.self_play, kept)
    line, warning = describe_buffer(rows, settings)
    log.info(line)
    if warning:
        log.warning(warning)
    replay = saved.replay.get(name) if saved else None
    if replay is not None:
        restore(rows, replay.index, replay.chunks())
    demos, digests = load_demos(config, spec)
    if before is not None and (change := changed_demos(before.get("demos", {}), digests)):  # once, none were saved
        log.warning(change)
    algorithm = make_algorithm(spec, settings, rows, device, config.seed, chosen.reward, demos)
    published = PolicyWriter(weights, algorithm.policy.flat.numel())
    learner = Learner(spec, algorithm, rows, published, shared.counters(name), digests, snapshots)
    if saved is not None and before is not None:
        try:
            learner.load_state_dict(_tensors(saved, name))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = f"was it saved by another version? {error}"
            raise UserError(f"{saved.path} does not fit the run's settings: {reason}") from error
        if replay is None:
            learner.restart_counting()
        ended = before.get("ended")
        if ended is not None and still_ended(chosen, ended := tuple(ended)):
            learner.end(ended)
        return learner
    load_init(algorithm, spec, config)
    learner.publish()
    return learner


def _tensors(checkpoint: Checkpoint, behavior: str) -> dict[str, Tensor]:
    tensors, prefix = checkpoint.tensors, f"{behavior}/"
    return {key.removeprefix(prefix): torch.from_numpy(tensors[key]) for key in tensors if key.startswith(prefix)}
