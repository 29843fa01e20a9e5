"""Loads what a run has saved: its checkpoints, and the policies in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envs.spec import BehaviorSpec, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore, restoring
from trainer.config.schema import TrainConfig, Which, settings_of

if TYPE_CHECKING:
    from algorithms.policy import Policy


def trained_policy(config: TrainConfig, checkpoint: Checkpoint, spec: BehaviorSpec) -> Policy:
    """Returns a behavior's policy from a run's settings and a checkpoint; UserError if these do not fit each other."""
    check_spec(spec, checkpoint)
    import torch  # takes seconds

    from algorithms.policy import make_policy

    policy = make_policy(spec, settings_of(config, spec.name)[0])
    with restoring(checkpoint.path):
        saved = torch.from_numpy(checkpoint.tensors[f"{spec.name}/weights/policy"]).to(policy.flat)
    if not torch.isfinite(saved).all():
        raise UserError(f"{checkpoint.path}: its policy of {spec.name!r} holds numbers that are not finite")
    if saved.shape != policy.flat.shape:
        raise UserError(
            f"{checkpoint.path}: its policy of {spec.name!r} has {saved.numel():,} numbers, by the run's settings it "
            f"would have {policy.flat.numel():,}: it was saved by another version"
        )
    policy.flat.copy_(saved)
    return policy


def saved_specs(saved: Checkpoint) -> dict[str, BehaviorSpec]:
    """Returns the specs of all behaviors in a checkpoint by name; UserError if it does not describe them."""
    behaviors = saved.state.get("behaviors")
    if not isinstance(behaviors, dict):
        raise UserError(f"{saved.path} says nothing of behaviors: it was saved by another version")
    specs = {}
    for name, behavior in behaviors.items():
        try:
            specs[name] = BehaviorSpec.from_dict(behavior["spec"])
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{saved.path}: its spec of {name!r} cannot be read ({error!r})") from error
        sizes = [*specs[name].branches, *(size for each in specs[name].observations for size in each.shape)]
        counts = [specs[name].continuous_size, behavior.get("samples"), *sizes]
        demos = behavior.get("demos", {})
        if not (all(isinstance(each, int) and 0 <= each < 2**53 for each in counts) and isinstance(demos, dict)):
            raise UserError(f"{saved.path}: what it says of {name!r} cannot be (sizes {counts}, demos {demos!r:.100})")
    return specs


def check_spec(spec: BehaviorSpec, saved: Checkpoint) -> None:
    """Raises UserError if `saved` is of a behavior with another name or spec."""
    known = saved_specs(saved)
    if spec.name not in known:
        raise UserError(f"{saved.path} holds no behavior {spec.name!r}; it has {', '.join(sorted(known))}")
    if difference := spec.difference(known[spec.name]):
        pairs = [
            (ours, theirs) for ours, theirs in zip(spec.observations, known[spec.name].observations) if ours != theirs
        ]
        images = any(len(theirs.shape) == 4 or ours.shape == theirs.shape for ours, theirs in pairs)
        hint = "; env.prepare_images=false leaves images as earlier versions did" if images else ""
        raise UserError(f"{saved.path} does not fit behavior {spec.name!r}: the environment has {difference}{hint}")


def load_checkpoint(folder: str, which: Which = Which["best"]) -> Checkpoint:
    """Returns the best checkpoint of the run in `folder`, or the newest if there is no best or the newest is asked for.

    Damaged ones are named in the log and passed over. Raises UserError if there is none that can be loaded.
    """
    store = CheckpointStore(Path(folder) / "checkpoints")
    best = store.load_best() if which is Which["best"] else None
    found = best or store.load_latest()
    saved_specs(found)
    return found
