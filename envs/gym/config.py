"""The settings of Gymnasium environments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from envs.config import EnvConfig, setting
from envs.imports import imported
from envs.spec import BehaviorSpec, UserError

# Whatever imports gymnasium is imported where it is used: it takes a moment.
if TYPE_CHECKING:
    from typing_extensions import Self

    from envs.api import Manager, Setup
    from envs.gym.adapter import GymEnv
    from envs.gym.probe import Look, Probe


@dataclass
class PooledConfig(EnvConfig):
    """An environment whose instances run in worker processes of ours."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    workers: int | None = setting(None, above=0)
    """Processes that host the instances; null = chosen from how long a step takes."""
    prepare_images: bool = True
    """Whether images are made ready for a CNN: stacked frames become channels, pixels are scaled to [0, 1] or [-1, 1].
    Runs of earlier versions go on without."""
    max_entities: int | None = setting(None, above=0)
    """How many entities there are at most where a `Sequence` is observed, which is padded to that; more are an error.
    More: slower."""

    reproducible: ClassVar[bool] = True
    takes_parameters: ClassVar[bool] = True

    @abstractmethod
    def made(self) -> Any:
        """Returns how to make one, picklable: it has `id`, `time_scale`, `parameters`, `check()` and `make()`."""

    def probed(self, seed: int) -> Any:
        """Returns what a first look finds; there is one look, whose result goes with this object to other processes.

        Raises:
            UserError: the env cannot be made or reset (with its traceback), or has a space that cannot be served.
        """
        from envs.gym.probe import probe
        from envs.process.restarts import START_SECONDS

        found: Probe | None = vars(self).get("_probed")  # no field, which would be a setting
        if found is None:
            found = self._probed = probe(self.made(), seed, self.step_timeout + START_SECONDS, self._look())
        return found

    def _look(self) -> Look | None:
        """Returns what takes the first look, if it is no Gymnasium environment."""
        return None

    @property
    def label(self) -> str:  # noqa: D102
        return str(self.made().id)

    def check(self) -> None:  # noqa: D102
        from envs.gym.probe import INSTANCES_PER_WORKER

        super().check()
        if self.workers is not None and self.workers > self.instances:
            raise UserError(
                f"env.workers={self.workers} is more than env.instances={self.instances}: a worker needs one"
            )
        if self.workers is not None and self.workers * INSTANCES_PER_WORKER < self.instances:
            raise UserError(
                f"env.workers={self.workers} are too few for env.instances={self.instances}: "
                f"a worker drives at most {INSTANCES_PER_WORKER}"
            )
        self.made().check()

    def probe_specs(self, seed: int) -> list[BehaviorSpec]:
        """Makes the environment once, in a process of its own."""
        return list(self.probed(seed).specs)

    def spaces(self, seed: int) -> dict[str, dict[str, Any]]:  # noqa: D102
        found: dict[str, dict[str, Any]] = self.probed(seed).spaces
        return found

    def for_evaluation(self, instances: int) -> Self:
        """Returns one that does not wait, in as many workers as fit."""
        return replace(self, instances=instances, time_scale=0, workers=None)


@dataclass
class GymConfig(PooledConfig):
    """A Gymnasium environment."""

    id: str = MISSING
    """Gymnasium id, with its module if it needs importing: `CartPole-v1`, `envs.games:BubbleShooter-v0`."""
    wrappers: list[Any] = field(default_factory=list)
    """Gymnasium wrappers, innermost first: import paths (`package.module:Class`) of classes derived from
    `gymnasium.Wrapper`, or mappings with `path` and `kwargs`."""

    def make_manager(self, setup: Setup) -> Manager:  # noqa: D102
        manager: Manager = imported("envs.gym.manager:EnvManager", "env")(self, setup)
        return manager

    @property
    def behavior_names(self) -> list[str]:  # noqa: D102
        return [self.gym_env().behavior]

    def made(self) -> GymEnv:  # noqa: D102
        return self.gym_env()

    def filmed(self, folder: Path) -> Self:  # noqa: D102
        from envs.gym import video

        wrapper: Mapping[str, Any] = {"path": video.WRAPPER, "kwargs": {"folder": str(folder.absolute())}}
        kwargs = {**self.kwargs, "render_mode": "rgb_array"}
        return replace(self, kwargs=kwargs, wrappers=[*self.wrappers, wrapper])

    def gym_env(self) -> GymEnv:  # noqa: D102
        from envs.gym.adapter import GymEnv

        wrappers = tuple(self.wrappers)
        return GymEnv(
            self.id, self.kwargs, wrappers, self.time_scale, self.prepare_images, self.parameters, self.max_entities
        )
