"""Loads weights to begin with into an algorithm: what fits of them, and what does not is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from envs.spec import Array, BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore, restoring
from trainer.config.saved import load_config
from trainer.config.schema import TrainConfig, behavior_config, settings_of
from trainer.saved_policy import check_spec, load_checkpoint
from trainer.telemetry.console import log
from trainer.warm_start.torch_file import read_tensors

if TYPE_CHECKING:
    from algorithms.base import Algorithm

_MODULE = "Policy"
_NEWEST = "checkpoint.pt"
"""What ML-Agents calls a behavior's newest checkpoint."""
_MANIFEST = "manifest.json"


class Source(NamedTuple):
    """Where a behavior's weights come from."""

    key: str
    """`init`, or that of a behavior."""
    path: Path
    """A run of ours, one of its checkpoints, or a file or folder of ML-Agents."""
    own: bool
    """Whether it was given for the behavior alone: then whatever fits is taken."""

    @property
    def is_mlagents(self) -> bool:
        """Whether ML-Agents wrote it."""
        return self.path.suffix == ".pt" or (self.path.is_dir() and not self._ours and any(self.path.rglob(_NEWEST)))

    @property
    def run(self) -> Path:
        """The folder of the run, if one of ours wrote it."""
        return self.path.parent.parent if (self.path / _MANIFEST).is_file() else self.path

    @property
    def _ours(self) -> bool:
        return (self.run / "config.yaml").is_file()

    def file(self, behavior: str) -> Path:
        """Returns ML-Agents' checkpoint of a behavior; UserError if there is none."""
        if self.path.suffix == ".pt":
            return self.path
        for file in (self.path / behavior / _NEWEST, self.path / _NEWEST):
            if file.is_file():
                return file
        raise UserError(f"{self.key}={self.path} holds no {behavior}/{_NEWEST}: name the file itself")

    def checkpoint(self) -> Checkpoint:
        """Returns the checkpoint of a run of ours; UserError if it has none yet, or none that can be loaded."""
        if self.run != self.path:
            return CheckpointStore(self.path.parent).load(self.path)
        store = CheckpointStore(self.path / "checkpoints")
        if store.latest() is None and store.best() is None:
            raise UserError(f"{self.key}={self.path}: the run has no checkpoint yet; start it again, or name another")
        return load_checkpoint(str(self.path))


def source_of(config: TrainConfig, behavior: str) -> Source | None:
    """Returns where the weights of a behavior come from; None = from nowhere."""
    if (own := behavior_config(config, behavior).init) is not None:
        entry = behavior if behavior in config.behaviors else "default"
        return Source(f"behaviors.{entry}.init", Path(own).expanduser(), own=True)
    return None if config.init is None else Source("init", Path(config.init), own=False)


def check_init(config: TrainConfig) -> None:
    """Refuses weights that cannot be read, before anything starts; UserError."""
    given = [Source("init", Path(config.init), own=False)] if config.init is not None else []
    for name, each in config.behaviors.items():
        if each.init is not None:
            given.append(Source(f"behaviors.{name}.init", Path(each.init).expanduser(), own=True))
    for source in given:
        if source.is_mlagents:
            for file in [source.path] if source.path.suffix == ".pt" else sorted(source.path.rglob(_NEWEST)):
                read_tensors(file, _MODULE)
        else:
            load_config(str(source.run), config.trust)
            source.checkpoint()


def check_fits(config: TrainConfig, spec: BehaviorSpec) -> None:
    """Refuses weights of a run that are of another game; UserError."""
    source = source_of(config, spec.name)
    if source is not None and not source.own and not source.is_mlagents:
        check_spec(spec, source.checkpoint())


def load_init(algorithm: Algorithm, spec: BehaviorSpec, config: TrainConfig) -> None:
    """Loads the weights that a behavior begins with, if any are named, and says what did not fit.

    Raises UserError if nothing fits.
    """
    source = source_of(config, spec.name)
    if source is None:
        return
    if source.is_mlagents:
        fits, lacks = _load_mlagents(algorithm, read_tensors(source.file(spec.name), _MODULE))
    else:
        fits, lacks = _load_ours(algorithm, spec, config, source)
    if not fits:
        raise UserError(
            f"{source.key}={source.path}: nothing of it fits the networks of behavior {spec.name!r} "
            f"({', '.join(lacks)}). Are algorithm.network.hidden, activation, encoder and memory as they were there?"
        )
    if lacks:
        log.warning(
            f"Behavior {spec.name!r} begins with {', '.join(fits)} of {source.path}; what does not fit begins anew: "
            f"{', '.join(lacks)}."
        )
    else:
        log.info(f"Behavior {spec.name!r} begins with the weights of {source.path}.")


def _load_mlagents(algorithm: Algorithm, theirs: dict[str, Array]) -> tuple[list[str], list[str]]:
    import torch  # takes seconds

    from trainer.warm_start.mlagents import normalizer_state, parts

    policy = algorithm.policy
    found = list(parts(policy, theirs))
    fits, lacks = [], ["values or critics"]
    with torch.no_grad():
        for name, ours, array in found:
            if array is None or tuple(array.shape) != tuple(ours.shape):
                lacks.append(name)
            else:
                ours.copy_(torch.from_numpy(array))
                fits.append(name)
    if policy.normalized_size:
        state = normalizer_state(policy, theirs)
        if state is None:
            lacks.append("the normaliser")
        else:
            algorithm.normalizer.load_state(state)
            algorithm.normalizer.publish(policy.shift, policy.scale)
            fits.append("the normaliser")
    return _weights_first(fits), lacks


def _load_ours(
    algorithm: Algorithm, spec: BehaviorSpec, config: TrainConfig, source: Source
) -> tuple[list[str], list[str]]:
    """Loads all weights of a run if they fit; else those of the policy that do."""
    import torch  # takes seconds

    from algorithms.policy import make_policy

    saved, name = source.checkpoint(), spec.name
    behaviors = saved.state.get("behaviors", {})
    if source.own and name not in behaviors and len(behaviors) == 1:
        (name,) = behaviors
    own = BehaviorSpec.from_dict(behaviors[name]["spec"]) if name in behaviors else spec
    if not source.own or name not in behaviors:
        check_spec(spec, saved)
    prefix = f"{name}/"
    with restoring(saved.path):
        tensors = {
            k.removeprefix(prefix): torch.from_numpy(x) for k, x in saved.tensors.items() if k.startswith(prefix)
        }
        vector = tensors["weights/policy"]
    if not replace(own, name=spec.name).difference(spec):
        try:
            algorithm.load_weights(tensors)
        except (KeyError, RuntimeError):
            pass  # what fits is taken below
        else:
            return ["all"], []
    settings, _ = settings_of(load_config(str(source.run), config.trust), name)
    before, policy = make_policy(own, settings), algorithm.policy
    if vector.shape != before.flat.shape:
        raise UserError(f"{source.key}={source.path}: its policy is not what its settings say: by another version?")
    before.flat.copy_(vector)
    theirs = dict(before.named_parameters())
    alike = before.kind == policy.kind or not spec.continuous_size
    fits, lacks = [], ["values or critics"]
    with torch.no_grad():
        for key, parameter in policy.named_parameters():
            other = theirs.get(key) if alike or not key.startswith(("head", "log_std")) else None
            if other is None or other.shape != parameter.shape:
                lacks.append(key)
            else:
                parameter.copy_(other)
                fits.append(key)
    state: Any = tensors.get("weights/normalizer")
    if policy.normalized_size:
        if (
            state is not None
            and before.normalized_size == policy.normalized_size
            and own.observations == spec.observations
        ):
            algorithm.normalizer.load_state(state)
            algorithm.normalizer.publish(policy.shift, policy.scale)
            fits.append("the normaliser")
        else:
            lacks.append("the normaliser")
    return _weights_first(fits), lacks


def _weights_first(fits: list[str]) -> list[str]:
    """Returns what fits; nothing if no layer's weights are among it: biases alone say nothing."""
    return fits if any("weight" in name for name in fits) else []
