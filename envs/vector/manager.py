"""The manager of batched environments: that of Gymnasium's, whose workers step many instances in one call."""

from __future__ import annotations

from envs.gym.manager import EnvManager
from envs.gym.worker import Actions
from envs.vector.worker import BatchPlan


class BatchManager(EnvManager):
    """Instances in few workers, each of which steps its own together."""

    def _plan(self, first: int, count: int, replay: dict[int, Actions]) -> BatchPlan:  # type: ignore[override]
        return BatchPlan(self.env, self._spec, self.instances, first, count, self.seed)
