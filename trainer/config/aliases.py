"""Other names of settings and figures: those of earlier versions, and those that other libraries use.

Names of earlier versions still work, and each is reported once. Names of other libraries are refused with ours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any

from algorithms.settings import GradientSettings

OLD_KEYS = {
    "algorithm.steps": "algorithm.n_step",
    "algorithm.entropy": "algorithm.entropy_coef",
    "algorithm.entropy_end": "algorithm.entropy_coef_end",
    "algorithm.act": "algorithm.policy_class",
    "algorithm.max_weight": "algorithm.rho_clip",
    "algorithm.cloning.samples": "algorithm.cloning.anneal_samples",
    "reward.gail.form": "reward.gail.reward_type",
}
"""Today's keys by those of earlier versions, at the top level and below `behaviors.<name>`."""
OLD_VALUES = {
    "algorithm.normalize_returns": False,
    "algorithm.target_kl": None,
    "algorithm.network.flatten_below": 20,
    "env.prepare_images": False,
}
"""What runs of earlier versions did, by the settings that they do not have: they go on with it."""
OLD_FIGURES = {
    "supply_fraction": "env_utilization",
    "run/supply_fraction": "run/env_utilization",
    "time/held_back": "time/throttled",
    "held_back": "throttled",
}
"""Today's names of figures in `summary.json` and of curves in TensorBoard, by those of earlier versions."""
OTHER_LIBRARIES = {
    "algorithm.discount": "gamma discount discount_factor",
    "algorithm.learning_rate": "lr learning_rate policy_lr actor_lr critic_lr q_lr",
    "algorithm.gae_lambda": "gae_lambda lambd lambda lambda_ lam",
    "algorithm.clip": "clip_range clip_coef clip_param clip_ratio epsilon",
    "algorithm.value_clip": "clip_range_vf vf_clip_param clip_vloss",
    "algorithm.entropy_coef": "ent_coef entropy_coeff beta",
    "algorithm.temperature": "ent_coef alpha init_entcoef",
    "algorithm.discrete_entropy": "target_entropy",
    "algorithm.continuous_entropy": "target_entropy",
    "algorithm.value_weight": "vf_coef vf_loss_coeff value_loss_coef",
    "algorithm.max_gradient_norm": "max_grad_norm grad_clip",
    "algorithm.target_rate": "tau polyak",
    "algorithm.epochs": "epochs n_epochs num_epoch num_epochs update_epochs num_sgd_iter ppo_epoch",
    "algorithm.rollout_size": "n_steps num_steps buffer_size train_batch_size",
    "algorithm.minibatch_size": "batch_size num_minibatches",
    "algorithm.batch_size": "batch_size",
    "algorithm.buffer_capacity": "buffer_size replay_size",
    "algorithm.start_samples": (
        "learning_starts buffer_init_steps num_steps_sampled_before_learning_starts warmup_steps start_steps"
    ),
    "algorithm.updates_per_sample": (
        "utd utd_ratio replay_ratio gradient_steps train_freq training_intensity steps_per_update"
    ),
    "algorithm.n_step": "n_steps",
    "algorithm.network.hidden": (
        "hidden net_arch hidden_units hidden_sizes hidden_dims num_layers hidden_size fcnet_hiddens"
    ),
    "algorithm.network.activation": "activation activation_fn fcnet_activation nonlinearity",
    "algorithm.network.initial_deviation": "log_std_init init_noise_std initial_log_std",
    "algorithm.network.normalize": "normalize norm_obs normalize_observations observation_filter",
    "algorithm.network.encoder": "vis_encode_type features_extractor_class",
    "algorithm.network.memory.cell": "use_lstm recurrent rnn_type",
    "algorithm.network.memory.size": "memory_size lstm_cell_size lstm_hidden_size rnn_size",
    "algorithm.network.memory.sequence_length": "max_seq_len",
    "algorithm.normalize_returns": "norm_reward normalize_rewards reward_scale",
    "algorithm.learning_rate_end": "anneal_lr lr_schedule",
    "algorithm.target_kl": "kl_target desired_kl",
    "algorithm.learn_temperature": "autotune",
    "algorithm.cloning": "behavioral_cloning",
    "algorithm.cloning.demos": "demo_path",
    "reward.gail.demos": "demo_path",
    "env.id": "env_id env_name",
    "env.kwargs": "env_kwargs",
    "env.executable": "env_path",
    "env.instances": (
        "n_envs num_envs num_workers num_env_runners num_rollout_workers num_envs_per_worker num_envs_per_env_runner"
    ),
    "stop.samples": "total_timesteps total_steps max_steps timesteps n_timesteps num_timesteps total_env_steps",
    "run.log_seconds": "log_interval summary_freq",
    "checkpoint.every_seconds": "save_freq checkpoint_interval",
    "checkpoint.keep": "keep_checkpoints",
    "checkpoint.replay": "save_replay_buffer",
    "evaluate.every_samples": "eval_freq evaluation_interval",
    "evaluate.episodes": "n_eval_episodes evaluation_duration",
    "env.port": "base_port",
    "env.wrappers": "frame_stack wrapper_class",
    "run.loggers": "track report_to",
    "run.mode": "torch_deterministic",
    "episodes": "n_eval_episodes num_episodes",
    "video": "render capture_video",
    "algorithm": "algo trainer_type",
    "algorithm.network": "policy policy_kwargs network_settings",
    "run.name": "run_id exp_name",
    "run.dir": "tensorboard_log logdir log_dir output_dir results_dir",
    "init": "initialize_from load",
    "device": "cuda num_gpus",
}
"""Names that Stable-Baselines3, CleanRL, RLlib, rsl_rl and ML-Agents give to our keys, and our own without a group."""
OTHER_UNITS = (
    "anneal_lr checkpoint_interval clip_vloss hidden_size hidden_units log_interval lr_schedule num_gpus num_layers "
    "num_minibatches observation_filter recurrent reward_scale save_freq steps_per_update summary_freq "
    "torch_deterministic track train_freq training_intensity use_lstm"
)
"""Those among them whose values say something else than ours do."""


def is_old(key: str) -> bool:
    """Returns whether an earlier version called a setting so."""
    return without_behavior(key) in OLD_KEYS


def current_key(key: str) -> str:
    """Returns today's name of `key`, and reports it if it is another."""
    own = without_behavior(key)
    if own not in OLD_KEYS:
        return key
    _report({own: OLD_KEYS[own]})
    return key.removesuffix(own) + OLD_KEYS[own]


def rename_old_keys(settings: Mapping[str, Any], defaults: object, given: Collection[str] | None = None) -> None:
    """Moves the values of old keys to today's, in place.

    Args:
        settings: those of a run or of a behavior: `algorithm` and `reward`, and those below them.
        defaults: an object with the same attributes, which says what today's settings are.
        given: today's keys whose values take precedence; None = all that `settings` hold.
    """
    renamed = {}
    for old, new in OLD_KEYS.items():
        (*path, last), name = old.split("."), new.rpartition(".")[2]
        values: Any = settings
        known: Any = defaults
        for key in path:
            values = values.get(key) if isinstance(values, Mapping) else None
            known = known.get(key) if isinstance(known, Mapping) else getattr(known, key, None)
        if not isinstance(values, MutableMapping) or last not in values:
            continue
        if hasattr(known, last) or not hasattr(known, name):  # another algorithm's, that has a key of this name today
            continue
        value = values.pop(last)
        if not (name in values if given is None else new in given):
            values[name] = value
        renamed[old] = new
    _report(renamed)


def add_old_values(
    saved: MutableMapping[str, Any], env: Mapping[str, Any], defaults_of: Callable[[object], object]
) -> None:
    """Gives settings that a saved configuration lacks the values that stand for what earlier versions did, in place.

    `env` has the keys of its kind of environment; `defaults_of` gives what `rename_old_keys` takes, by algorithm.
    """
    for settings in (saved, *(saved.get("behaviors") or {}).values()):
        name = ((settings.get("algorithm") or {}) or saved["algorithm"]).get("name", saved["algorithm"].get("name"))
        for key, value in OLD_VALUES.items():
            (first, *path), last = key.split(".")[:-1], key.split(".")[-1]
            part = settings.get(first)
            known: Any = env if first == "env" else getattr(defaults_of(name), first, None) or GradientSettings()
            for each in path:
                part = part.get(each) if isinstance(part, Mapping) else None
                known = getattr(known, each)
            if isinstance(part, MutableMapping) and (last in known if first == "env" else hasattr(known, last)):
                part.setdefault(last, value)


def current_figure(name: str) -> str:
    """Returns today's name of a figure of `summary.json`, or of a curve."""
    return OLD_FIGURES.get(name, name)


def our_keys(key: str, known: Collection[str]) -> list[str]:
    """Returns what another library's `key` is called here; `known` are the last parts of our keys beside it."""
    own = without_behavior(key)
    parent, _, last = own.rpartition(".")
    meant = [ours for ours, names in OTHER_LIBRARIES.items() if last in names.split() and ours != own]
    if beside := [ours for ours in meant if ours.rpartition(".")[0] == parent]:
        meant = [ours for ours in beside if ours.rpartition(".")[2] in known][:1] or meant
    elif not parent:
        meant = [ours for ours in meant if ours.partition(".")[0] in known]
    elif parent.startswith("reward"):
        meant = []
    behavior = key.removesuffix(own)
    return [behavior + ours if ours.startswith("algorithm.") else ours for ours in meant]


def without_behavior(key: str) -> str:
    """Returns the key that `behaviors.<name>.<key>` sets for one behavior; any other as it is."""
    return re.sub(r"^behaviors\.[^.]+\.", "", key)


_reported: set[str] = set()


def _report(renamed: Mapping[str, str]) -> None:
    """Says which old names were used, once for each of them."""
    if new := {old: now for old, now in renamed.items() if old not in _reported}:
        _reported.update(new)
        print("renamed:", ", ".join(f"{old} is now {now}" for old, now in new.items()), file=sys.stderr)
