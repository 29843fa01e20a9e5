"""What a run asks of an algorithm, and how one is made: PPO, SAC, or a user's own (docs/extending.md)."""

from __future__ import annotations

import inspect
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from algorithms.imitation.cloning import Cloning
from algorithms.metrics import seeded
from algorithms.networks.custom import words_of
from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.rewards.registry import Demos
from algorithms.sac.sac import SAC
from algorithms.settings import (
    AlgorithmSettings,
    CustomSettings,
    PPOSettings,
    RewardSettings,
    SACSettings,
    policy_kind,
)
from buffers.rows import Rows
from envs.imports import imported
from envs.spec import BehaviorSpec, UserError


class Algorithm(Protocol):
    """Learns a policy from rows, an update at a time."""

    @property
    def policy(self) -> Policy:
        """What is learned; actors get copies of `policy.flat`."""

    @property
    def updates(self) -> int:
        """Made so far, earlier parts of a resumed run included."""

    @property
    def publish_every(self) -> int:
        """Updates between two publications of the policy."""

    @property
    def updates_per_sample(self) -> float:
        """Updates that are made for each sample."""

    @property
    def start_samples(self) -> int:
        """Samples collected before the first update."""

    @property
    def tolerance(self) -> float:
        """Samples by which updates may lag before games are held back; at least those of one update."""

    @property
    def dropped(self) -> int:
        """Rows that came too late to be learned from; no update is made for them."""

    @property
    def cloning(self) -> Cloning | None:
        """Cloning of demonstrations, whose updates before the first sample are made by the run; None without."""

    def update(self) -> None:
        """Learns once, and counts `updates` on; or finds too few rows that are fresh, and counts `dropped` on."""

    def set_progress(self, samples: int) -> None:
        """Moves schedules to `samples` samples."""

    def metrics(self) -> dict[str, float]:
        """What to log, by TensorBoard's names."""

    def weights(self) -> dict[str, Tensor]:
        """Copies of the networks, without the state of learning; `weights/policy` is that of `policy.flat`."""

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Takes over what `weights` gave."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that an exact continuation needs, the rows apart: `weights`, and more."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave; the rows are there already."""


METHODS = [name for name, member in vars(Algorithm).items() if inspect.isfunction(member) and name[0] != "_"]
VALUES = [name for name, member in vars(Algorithm).items() if isinstance(member, property)]


def make_algorithm(
    spec: BehaviorSpec,
    settings: AlgorithmSettings,
    rows: Rows,
    device: torch.device,
    seed: int,
    rewards: RewardSettings,
    demos: Demos,
) -> Algorithm:
    """The algorithm that is set, to learn from `rows`; `demos` holds, by path, the demonstrations that settings name.

    Raises:
        UserError: a user's own cannot be made, or lacks something.
    """
    if isinstance(settings, PPOSettings):
        return PPO(spec, settings, rows, device, seed, rewards, demos)
    if isinstance(settings, SACSettings):
        return SAC(spec, settings, rows, device, seed, rewards, demos)
    about = f"algorithm.path: {settings.path}"
    kind = algorithm_class(str(settings.path), "algorithm.path")
    try:
        made: Algorithm = seeded(lambda: kind(spec, settings, rows, device, seed, rewards, demos), seed)
    except UserError:
        raise  # says itself what it does not do
    except Exception as error:  # the user's code
        raise UserError(f"{about} cannot be made for behavior {spec.name!r} ({words_of(error)})") from error
    if missing := [name for name in VALUES if not hasattr(made, name)]:
        raise UserError(f"{about} has no {', '.join(missing)} once it is made")
    _check_policy(made.policy, spec, settings, about)
    _check_pace(made, rows, about)
    _check_weights(made, about)
    if settings.cloning.demos is not None and made.cloning is None:
        raise UserError(f"{about} does no cloning (its cloning is None): leave algorithm.cloning.demos out")
    return made


def algorithm_class(path: str, key: str) -> Any:
    """The class at an import path, which `key` of the configuration names.

    Raises:
        UserError: the path does not resolve, or what it names is no class with the methods of an `Algorithm`, to be
            made as `make_algorithm` does.
    """
    found = imported(path, key)
    if not isinstance(found, type):
        raise UserError(f"{key}: {path} must be a class")
    if missing := [name for name in METHODS if not callable(getattr(found, name, None))]:
        raise UserError(f"{key}: {path} lacks {', '.join(missing)}: an algorithm has {', '.join(METHODS)}")
    given = list(inspect.signature(make_algorithm).parameters)
    try:
        inspect.signature(found).bind(*given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {path} cannot be called with ({', '.join(given)}): {error}") from error
    return found


def _check_policy(policy: Policy, spec: BehaviorSpec, settings: CustomSettings, about: str) -> None:
    """Refuses a policy that is not the one which actors make for themselves, or whose parameters do not reach them."""
    kind = policy_kind(settings)
    acts = seeded(lambda: Policy(spec, settings.network, kind), 0)
    if not isinstance(policy, Policy) or policy.kind != kind or policy.flat.shape != acts.flat.shape:
        raise UserError(
            f"{about} has another policy than acts with algorithm.policy_class={kind}, which is "
            f"algorithms.policy.Policy(spec, settings.network, {kind!r})"
        )
    if next(policy.parameters()).data_ptr() != policy.flat[policy.parameter_start :].data_ptr():
        raise UserError(
            f"{about} has a policy outside policy.flat, which actors get: move it by policy.move_to(vector)"
        )


def _check_pace(made: Algorithm, rows: Rows, about: str) -> None:
    """Refuses counts that are none, and a buffer that is too small for what may wait in it."""
    for name, least in {"updates": 0, "publish_every": 1, "start_samples": 0, "dropped": 0}.items():
        value = getattr(made, name)
        if not isinstance(value, int) or value < least:
            raise UserError(f"{about} has {name}={value!r}: it must be an int, {least} or more")
    for name in ("updates_per_sample", "tolerance"):
        value = getattr(made, name)
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise UserError(f"{about} has {name}={value!r}: it must be a finite number above 0")
    one_update = 1 / made.updates_per_sample
    if made.tolerance < one_update * (1 - 1e-6):
        raise UserError(
            f"{about} has tolerance={made.tolerance:g}: it must be {one_update:g}, one update's samples, or more"
        )
    # A step that is cut off takes two rows: its own and that of its last observation.
    needed = 2 * math.ceil(max(made.start_samples, made.tolerance + one_update))
    if rows.capacity < needed:
        raise UserError(
            f"{about} may let samples wait that take {needed:,} rows, and the buffer holds {rows.capacity:,}: "
            "raise algorithm.buffer_memory_mib or algorithm.buffer_capacity, or let it update on fewer"
        )


def _check_weights(made: Algorithm, about: str) -> None:
    """Refuses what could not be saved, played with or gone on from."""
    try:
        weights, state = made.weights(), made.state_dict()
    except Exception as error:  # the user's code
        raise UserError(f"{about} cannot tell its weights and state_dict ({words_of(error)})") from error
    for name, tensors in {"weights": weights, "state_dict": state}.items():
        if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise UserError(f"{about}: {name}() must return a dict of tensors by name")
    policy = weights.get("weights/policy")
    if policy is None or policy.shape != made.policy.flat.shape:
        raise UserError(f"{about}: weights() must hold 'weights/policy', a copy of policy.flat")
    if missing := [name for name in weights if name not in state]:
        raise UserError(f"{about}: state_dict() must hold all that weights() does, and lacks {', '.join(missing)}")
