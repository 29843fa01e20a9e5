"""Behaviors of an ML-Agents trainer YAML, as algorithms and rewards of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.spec import UserError
from trainer.convert import keys
from trainer.convert.keys import LOST, Left, mapping, read, renamed
from trainer.convert.networks import network, read_policy_network, sequence_length
from trainer.convert.signals import NOVELTY, cloning, gail, novelty, read_cloning, read_signal


def convert_behaviors(file: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Converts `default_settings` and `behaviors` of the `file` to groups of an experiment.

    The first of them stands at the top level, whose values the others inherit. What has no counterpart is appended to
    `left`. Raises UserError as `trainer.convert.__main__.convert`, as far as behaviors are concerned.
    """
    entries: dict[str, dict[str, Any]] = {}
    if "default_settings" in file:
        entries["default"] = _behavior(file["default_settings"], "default_settings", {}, left)
    for behavior, data in file.get("behaviors", {}).items():
        if behavior == "default":
            raise UserError("behaviors.default: here `default` is all behaviors without a name: use default_settings")
        entries[behavior] = _behavior(data, f"behaviors.{behavior}", entries.get("default", {}), left)
    if not entries:
        raise UserError("behaviors is missing: the file names no behavior, and has no default_settings")
    algorithms = {behavior: _algorithm(entry, left) for behavior, entry in entries.items()}
    asked = [name for name in NOVELTY if any(name in entry["signals"] for entry in entries.values())]
    rewards = {behavior: _reward(entry, asked, left) for behavior, entry in entries.items()}
    first = next(iter(entries))
    self_play = entries[first]["self_play"]
    experiment: dict[str, Any] = {
        "defaults": [{"override /env": "unity"}, {"override /algorithm": algorithms[first]["name"]}],
        "algorithm": _without_nulls({key: value for key, value in algorithms[first].items() if key != "name"}),
        "reward": _without_nulls(rewards[first]),
        **({"self_play": self_play} if self_play else {}),
        "behaviors": {},
        **_schedule(entries, left),
    }
    for behavior, entry in entries.items():
        changes: dict[str, Any] = {}
        if algorithm := _changes(algorithms[behavior], algorithms[first]):
            changes["algorithm"] = algorithm
        if reward := {key: value for key, value in rewards[behavior].items() if value != rewards[first][key]}:
            changes["reward"] = reward
        if len(entries) > 1 or first == "default":
            changes["stop"] = {"samples": entry["max_steps"]}
        if entry["self_play"] != entries[first]["self_play"]:
            changes["self_play"] = entry["self_play"] or {"save_samples": None}
        if entry["init"] is not None:
            changes["init"] = entry["init"]
        experiment["behaviors"][behavior] = changes
    return experiment


def _behavior(data: Any, where: str, default: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns a behavior's values in ML-Agents' words, on top of those of `default_settings`."""
    own = read(data, where, keys.BEHAVIOR, left)
    values = {**keys.defaults(keys.BEHAVIOR), **default, **own}
    trainer = values["trainer_type"]
    algorithm = trainer if trainer in keys.HYPERPARAMETERS else "ppo"
    if trainer != algorithm:
        left.append(Left(f"{where}.trainer_type", trainer, "no such trainer here: ppo learns instead", LOST))
    table = keys.HYPERPARAMETERS[algorithm]
    # Values for one algorithm say nothing about another.
    inherited = default["hyperparameters"] if trainer == default.get("trainer_type") else keys.defaults(table)
    hyperparameters = {**inherited, **read(own.get("hyperparameters"), f"{where}.hyperparameters", table, left)}
    on_policy = algorithm in keys.ON_POLICY
    schedule = hyperparameters.setdefault("learning_rate_schedule", "linear" if on_policy else "constant")
    if on_policy:
        hyperparameters.setdefault("beta_schedule", schedule)
        hyperparameters.setdefault("epsilon_schedule", schedule)
    cloned = default.get("cloning")
    if "behavioral_cloning" in own:
        cloned = read_cloning(own["behavioral_cloning"], f"{where}.behavioral_cloning", cloned, left)
    self_play = default.get("self_play")
    if "self_play" in own:
        self_play = _self_play(own["self_play"], f"{where}.self_play", self_play, left)
    above = default.get("network_settings", keys.defaults(keys.NETWORK))
    network_settings = read_policy_network(own.get("network_settings"), f"{where}.network_settings", above, left)
    signals = _signals(own.get("reward_signals"), f"{where}.reward_signals", default.get("signals"), left)
    return {
        "where": where,
        "trainer_type": trainer,
        "algorithm": algorithm,
        **{name: values[name] for name in _PLAIN},
        "init": own.get("init_path"),
        "hyperparameters": hyperparameters,
        "network_settings": network_settings,
        "signals": signals,
        "discount": next(signals[name]["gamma"] for name in _SIGNALS if name in signals),
        "cloning": cloned,
        "self_play": self_play,
    }


_PLAIN = ("max_steps", "keep_checkpoints", "summary_freq", "checkpoint_interval", "even_checkpoints")
_SIGNALS = ("extrinsic", "gail", *NOVELTY)
"""The first of them that a behavior has says its discount."""


def _self_play(data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    """Returns our settings of self-play, on top of those of `default_settings`."""
    given = renamed(read(data, where, keys.SELF_PLAY, left), keys.SELF_PLAY)
    found = {**renamed(keys.defaults(keys.SELF_PLAY), keys.SELF_PLAY), **(default or {}), **given}
    # There a rating moves by the score less what was expected, which is Elo's with this factor.
    return {**found, "k": 1.0}


def _signals(data: Any, where: str, default: Mapping[str, Any] | None, left: list[Left]) -> dict[str, Any]:
    """Returns the reward signals by name, on top of those of `default_settings`."""
    if data is None:
        return dict(default or {"extrinsic": keys.defaults(keys.SIGNALS["extrinsic"])})
    signals, found = mapping(data, where), dict(default or {})
    left += [
        keys.unknown(f"{where}.{name}", value, list(keys.SIGNALS))
        for name, value in signals.items()
        if name not in keys.SIGNALS
    ]
    for name in _SIGNALS:
        if name in signals:
            found[name] = read_signal(name, signals[name], f"{where}.{name}", found.get(name), left)
    if not found and signals:
        return _signals(None, where, default, left)
    if not found:
        raise UserError(f"{where} holds nothing: give one of {', '.join(keys.SIGNALS)}")
    return found


def _algorithm(entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Returns settings of the algorithm, always the same keys for the same one."""
    return {
        "name": entry["algorithm"],
        "network": network(entry),
        "discount": entry["discount"],
        "normalize_returns": False,  # strengths and temperatures are in the game's units there
        "cloning": cloning(entry),
        **(_ppo(entry) if entry["algorithm"] in keys.ON_POLICY else _sac(entry, left)),
    }


def _ppo(entry: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(entry["hyperparameters"])
    if values["batch_size"] > values["buffer_size"]:
        raise UserError(
            f"{entry['where']}.hyperparameters.batch_size={values['batch_size']} is larger than "
            f"buffer_size={values['buffer_size']}: a batch is a part of the buffer"
        )
    ends = {
        "learning_rate_end": _end(values.pop("learning_rate_schedule"), _LAST_RATE),
        "clip_end": _end(values.pop("epsilon_schedule"), 0.1),
        "entropy_coef_end": _end(values.pop("beta_schedule"), 1e-5),
    }
    samples = None if set(ends.values()) == {None} else entry["max_steps"]
    return {
        **renamed(values, keys.PPO),
        **ends,
        "schedule_samples": samples,
        "entropy_per": "branch",
        # There half the squared error counts; here, its half.
        "value_weight": 1.0,
        **dict.fromkeys(_NO_LIMITS),
    }


def _sac(entry: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    values = entry["hyperparameters"]
    # ML-Agents, too, waits for the first whole batch. Behind a sequence, one row more is looked at.
    start = max(values["buffer_init_steps"], values["batch_size"], sequence_length(entry) + 1)
    if values["buffer_size"] < 2 * start:
        remedy = f"raised to {2 * start}: the buffer holds two rows for each sample before the first update"
        left.append(Left(f"{entry['where']}.hyperparameters.buffer_size", values["buffer_size"], remedy))
    end = _end(values["learning_rate_schedule"], _LAST_RATE)
    return {
        "batch_size": values["batch_size"],
        "buffer_capacity": max(values["buffer_size"], 2 * start),
        "start_samples": start,
        "updates_per_sample": 1 / values["steps_per_update"],
        "learning_rate": values["learning_rate"],
        "learning_rate_end": end,
        "schedule_samples": None if end is None else entry["max_steps"],
        "target_rate": values["tau"],
        "temperature": values["init_entcoef"],
        "discrete_entropy": 0.2,  # no key there, but its constant
    }


_LAST_RATE = 1e-10
_NO_LIMITS = ("target_kl", "max_gradient_norm")
"""What PPO has here and not there: null, which is not the default."""


def _end(schedule: str, end: float) -> float | None:
    return end if schedule == "linear" else None


def _reward(entry: Mapping[str, Any], asked: list[str], left: list[Left]) -> dict[str, Any]:
    """Returns the settings of the rewards; of curiosity and RND only those that any behavior has `asked` for."""
    extrinsic = entry["signals"].get("extrinsic", {"strength": 0.0})
    return {
        "extrinsic": {"strength": extrinsic["strength"]},
        "gail": gail(entry, left),
        **{name: novelty(name, entry, left) for name in asked},
    }


def _changes(own: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a behavior's algorithm that differ from the top level's; all of another algorithm."""
    if own["name"] != first["name"]:
        return _without_nulls(own)
    return {key: value for key, value in own.items() if value != first[key]}


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tree without what is null by default, and without groups that hold nothing else."""
    kept = {key: _without_nulls(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if (value is not None or key in _NO_LIMITS) and value != {}}


def _schedule(entries: Mapping[str, Mapping[str, Any]], left: list[Left]) -> dict[str, Any]:
    """Returns what ends a run, and when it logs and saves; appends to `left` what all behaviors have together here."""
    every: dict[str, int] = {}
    for key in ("summary_freq", "checkpoint_interval"):
        own = {behavior: entry[key] for behavior, entry in entries.items()}
        if key == "checkpoint_interval":
            even = {name: max(1, each["max_steps"] // each["keep_checkpoints"]) for name, each in entries.items()}
            own = {name: even[name] if entries[name]["even_checkpoints"] else value for name, value in own.items()}
        every[key] = sum(own.values())
        if len(own) > 1:
            remedy = f"samples of all behaviors count together, so {every[key]}: as often if all are as fast"
            left.append(Left(key, own, remedy))
    kept = {behavior: entry["keep_checkpoints"] for behavior, entry in entries.items()}
    if len(set(kept.values())) > 1:
        left.append(
            Left("keep_checkpoints", kept, "a checkpoint holds all behaviors, so checkpoint.keep is the largest")
        )
    alone = len(entries) == 1 and "default" not in entries
    return {
        "run": {"log_samples": every["summary_freq"]},
        **({"stop": {"samples": next(iter(entries.values()))["max_steps"]}} if alone else {}),
        "checkpoint": {"keep": max(kept.values()), "every_samples": every["checkpoint_interval"]},
    }
