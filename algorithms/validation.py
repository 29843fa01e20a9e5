"""Which settings make sense: checks of their ranges, and of how they go together, without torch."""

from __future__ import annotations

import math

from algorithms.settings import (
    AlgorithmSettings,
    CloningSettings,
    CustomSettings,
    GAILSettings,
    IntrinsicSettings,
    NetworkSettings,
    PPOSettings,
    RewardSettings,
    SACSettings,
    batch_sequences,
    demo_sequences,
    least_rows,
    pays,
    remembers,
    sequence_rows,
)
from envs.spec import UserError


def validate_ppo(settings: PPOSettings, prefix: str = "algorithm") -> None:
    """Checks the ranges of all values; `prefix` is where the settings stand in the configuration.

    Raises UserError, which names the key, if one is out of range.
    """
    _validate_network(settings.network, prefix)
    for key in ("buffer_memory_mib", "rollout_size", "minibatch_size", "epochs"):
        _at_least(prefix, key, getattr(settings, key), 1)
    _at_least(prefix, "max_lag", settings.max_lag, 0)
    for key in ("discount", "gae_lambda"):
        _share(prefix, key, getattr(settings, key))
    for key in ("clip", "rho_clip", "max_gradient_norm"):
        _positive(prefix, key, getattr(settings, key))
    for key in ("entropy_coef", "value_weight"):
        _at_least(prefix, key, getattr(settings, key), 0)
    if settings.value_clip is not None:
        _positive(prefix, "value_clip", settings.value_clip)
    _validate_schedule(settings, ("learning_rate", "clip", "entropy_coef"), prefix)
    if settings.minibatch_size > settings.rollout_size:
        raise UserError(
            f"{prefix}.minibatch_size={settings.minibatch_size} is larger than "
            f"{prefix}.rollout_size={settings.rollout_size}: a minibatch is a part of a rollout"
        )
    if remembers(settings) and settings.network.memory.sequence_length > settings.rollout_size:
        raise UserError(
            f"{prefix}.network.memory.sequence_length={settings.network.memory.sequence_length} is longer than "
            f"{prefix}.rollout_size={settings.rollout_size}: a sequence is a part of a rollout"
        )
    _validate_cloning(settings.cloning, f"{prefix}.cloning")
    _validate_capacity(settings, prefix)


def validate_sac(settings: SACSettings, prefix: str = "algorithm") -> None:
    """Checks the ranges of all values; `prefix` is where the settings stand in the configuration.

    Raises UserError, which names the key, if one is out of range.
    """
    _validate_network(settings.network, prefix)
    for key in ("buffer_memory_mib", "batch_size", "start_samples", "n_step"):
        _at_least(prefix, key, getattr(settings, key), 1)
    for key in ("discount", "discrete_entropy"):
        _share(prefix, key, getattr(settings, key))
    for key in ("updates_per_sample", "target_rate", "temperature"):
        _positive(prefix, key, getattr(settings, key))
    if settings.target_rate > 1:
        raise UserError(f"{prefix}.target_rate={settings.target_rate} must not be above 1")
    if settings.max_gradient_norm is not None:
        _positive(prefix, "max_gradient_norm", settings.max_gradient_norm)
    if not 0 < settings.demo_share < 1:
        raise UserError(f"{prefix}.demo_share={settings.demo_share} must lie between 0 and 1, both excluded")
    if settings.demos is not None and demo_sequences(settings) == batch_sequences(settings):
        unit = "sequence" if remembers(settings) else "row"
        raise UserError(
            f"{prefix}.demo_share={settings.demo_share} of {prefix}.batch_size={settings.batch_size} leaves no {unit} "
            "of the agent's own: lower the share, or raise the batch size"
        )
    if (
        remembers(settings)
        and settings.buffer_capacity is not None
        and sequence_rows(settings) > settings.buffer_capacity
    ):
        memory = settings.network.memory
        raise UserError(
            f"{prefix}.network.memory.sequence_length={memory.sequence_length}, burn_in={memory.burn_in} and "
            f"{prefix}.n_step={settings.n_step} make sequences of {sequence_rows(settings)} rows, longer than "
            f"{prefix}.buffer_capacity={settings.buffer_capacity}: shorten them, or hold more rows"
        )
    _validate_cloning(settings.cloning, f"{prefix}.cloning")
    _validate_schedule(settings, ("learning_rate",), prefix)
    _validate_capacity(settings, prefix)


def validate_custom(settings: CustomSettings, prefix: str = "algorithm") -> None:
    """Checks the ranges of all values, and that the path names an algorithm; `prefix` as above.

    Raises UserError, which names the key, if something is wrong.
    """
    if settings.path is None:
        raise UserError(f"{prefix}.path is missing: name your class, {prefix}.path=my_package.learn:MyAlgorithm")
    _validate_network(settings.network, prefix)
    _at_least(prefix, "buffer_memory_mib", settings.buffer_memory_mib, 1)
    _share(prefix, "discount", settings.discount)
    _validate_cloning(settings.cloning, f"{prefix}.cloning")
    _validate_capacity(settings, prefix)
    from algorithms.base import algorithm_class  # imports torch, as the user's module does

    algorithm_class(settings.path, f"{prefix}.path")


def validate_rewards(settings: RewardSettings, discount: float, prefix: str = "") -> None:
    """Checks the ranges of all values, also against the `discount` of the algorithm that learns from them.

    `prefix` is where the behavior's settings stand in the configuration, with the dot behind it.

    Raises UserError, which names the key, if one is out of range.
    """
    _at_least(f"{prefix}reward", "extrinsic.strength", settings.extrinsic.strength, 0)
    _validate_gail(settings.gail, f"{prefix}reward.gail")
    signals = {"curiosity": settings.curiosity, "rnd": settings.rnd}
    for name, signal in signals.items():
        _validate_novelty(signal, f"{prefix}reward.{name}")
    if not 0 < settings.curiosity.forward_share < 1:
        raise UserError(
            f"{prefix}reward.curiosity.forward_share={settings.curiosity.forward_share} must lie between 0 and 1, both "
            "excluded: both models have to learn"
        )
    endless = ["gail"] if settings.gail.demos is not None else []
    endless += [name for name, signal in signals.items() if pays(signal)]
    if endless and discount >= 1:
        raise UserError(
            f"{prefix}algorithm.discount={discount} with {prefix}reward.{endless[0]}: what comes after an end is worth "
            "reward / (1 - discount), so the discount has to be below 1"
        )


def _validate_gail(settings: GAILSettings, prefix: str) -> None:
    _at_least(prefix, "gradient_penalty", settings.gradient_penalty, 0)
    _validate_learned(settings, prefix)


def _validate_novelty(settings: IntrinsicSettings, prefix: str) -> None:
    _at_least(prefix, "encoding_size", settings.encoding_size, 2)
    _validate_learned(settings, prefix)


def _validate_learned(settings: GAILSettings | IntrinsicSettings, prefix: str) -> None:
    _at_least(prefix, "strength", settings.strength, 0)
    _at_least(prefix, "batch_size", settings.batch_size, 1)
    for key in ("learning_rate", "updates_per_sample", "bound"):
        _positive(prefix, key, getattr(settings, key))
    _validate_hidden(settings.hidden, f"{prefix}.hidden")
    _validate_ends(settings, ("strength",), prefix)


def _validate_network(settings: NetworkSettings, prefix: str) -> None:
    _validate_hidden(settings.hidden, f"{prefix}.network.hidden")
    _at_least(prefix, "network.joint_choices", settings.joint_choices, 0)
    if settings.custom is not None:
        from algorithms.networks.custom import network_class  # imports torch, as the user's module does

        network_class(settings.custom, f"{prefix}.network.custom")
    for key, least in (("size", 1), ("sequence_length", 2), ("burn_in", 0)):
        _at_least(prefix, f"network.memory.{key}", getattr(settings.memory, key), least)


def _validate_hidden(hidden: list[int], key: str) -> None:
    if min(hidden, default=1) < 1:
        raise UserError(f"{key}={hidden}: every layer needs at least 1 unit")


def _validate_cloning(settings: CloningSettings, prefix: str) -> None:
    for key in ("updates_before", "strength", "anneal_samples"):
        _at_least(prefix, key, getattr(settings, key), 0)
    _at_least(prefix, "batch_size", settings.batch_size, 1)
    _positive(prefix, "learning_rate", settings.learning_rate)


def _validate_capacity(settings: AlgorithmSettings, prefix: str) -> None:
    least = least_rows(settings)
    if settings.buffer_capacity is not None and settings.buffer_capacity < least:
        raise UserError(f"{prefix}.buffer_capacity={settings.buffer_capacity} has to be {least} or more here")


def _validate_schedule(settings: PPOSettings | SACSettings, keys: tuple[str, ...], prefix: str) -> None:
    _positive(prefix, "learning_rate", settings.learning_rate)
    _validate_ends(settings, keys, prefix)


def _validate_ends(
    settings: PPOSettings | SACSettings | GAILSettings | IntrinsicSettings, keys: tuple[str, ...], prefix: str
) -> None:
    for key in keys:
        end = getattr(settings, f"{key}_end")
        if end is None:
            continue
        _at_least(prefix, f"{key}_end", end, 0)
        if settings.schedule_samples is None:
            raise UserError(f"{prefix}.{key}_end={end} needs {prefix}.schedule_samples: when it is to be reached")
    if settings.schedule_samples is not None:
        _at_least(prefix, "schedule_samples", settings.schedule_samples, 1)


def _at_least(prefix: str, key: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise UserError(f"{prefix}.{key}={value} must be at least {least}{_finite(value)}")


def _positive(prefix: str, key: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UserError(f"{prefix}.{key}={value} must be above 0{_finite(value)}")


def _share(prefix: str, key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{prefix}.{key}={value} must lie between 0 and 1")


def _finite(value: float) -> str:
    return " and finite" if value == math.inf else ""
