"""The settings of batched environments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from envs.config import setting
from envs.gym.config import PooledConfig
from envs.imports import imported
from envs.spec import UserError

if TYPE_CHECKING:
    from envs.api import Manager, Setup
    from envs.gym.probe import Look
    from envs.vector.environment import BatchEnv


@dataclass
class VectorConfig(PooledConfig):
    """A batched environment: one worker steps many instances in one call, which waits for the slowest of them."""

    vector: str = MISSING
    """What makes it: `envpool:<task>`, `gymnasium:<id>` (by `gymnasium.make_vec`), or a class or a function of yours
    that takes `num_envs` and makes a `VectorEnv`: `my_envs:make_vec`."""
    batch: int | None = setting(None, above=0)
    """Instances of EnvPool that are taken at once, the first that are done; null = half of a worker's."""

    reproducible: ClassVar[bool] = False
    takes_parameters: ClassVar[bool] = False

    def make_manager(self, setup: Setup) -> Manager:  # noqa: D102
        one = replace_workers(self)
        manager: Manager = imported("envs.vector.manager:BatchManager", "env")(one, setup)
        return manager

    @property
    def behavior_names(self) -> list[str]:  # noqa: D102
        return [self.made().behavior]

    def check(self) -> None:  # noqa: D102
        super().check()
        if self.batch is not None and not self.vector.startswith("envpool:"):
            raise UserError(f"env.batch={self.batch} is for EnvPool: others step all instances together")

    def made(self) -> BatchEnv:  # noqa: D102
        from envs.vector.environment import BatchEnv

        return BatchEnv(self.vector, self.kwargs, self.batch, self.prepare_images)

    def _look(self) -> Look:
        from envs.vector.worker import look_at_batch

        return look_at_batch


def replace_workers(config: VectorConfig) -> VectorConfig:
    """Returns the same with as few workers as can drive the instances, if nothing else was said."""
    from envs.gym.probe import INSTANCES_PER_WORKER

    if config.workers is not None:
        return config
    chosen = replace(config, workers=-(-config.instances // INSTANCES_PER_WORKER))
    if "_probed" in vars(config):
        chosen._probed = config._probed
    return chosen
