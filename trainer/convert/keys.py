"""Every key of an ML-Agents trainer YAML: what values it takes, and what to do where it has no counterpart here.

Follows `mlagents.trainers.settings` of ML-Agents 1.1.0, its Training-Configuration-File.md and its example configs.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from envs.spec import UserError

Kind = Enum("Kind", ["number", "count", "switch", "text", "words", "intervals", "group"])
"""`count`: a whole number. `switch`: true or false. `words`: a list of texts. `intervals`: a list of two numbers each.
`group`: keys of its own."""


class Left(NamedTuple):
    """A key that was not converted, or that does not mean quite the same here."""

    key: str
    """Where it stands in the YAML, dotted."""
    value: Any
    remedy: str
    """What happens instead, and what to do."""


@dataclass(frozen=True)
class Key:
    """One key of the YAML."""

    kind: Kind
    least: float | None = None
    """The smallest value."""
    above: float | None = None
    """All values are larger than this."""
    most: float | None = None
    """The largest value."""
    choices: tuple[str, ...] = ()
    """The texts that it takes; empty = any."""
    left: str | None = None
    """Remedy of a key that has no counterpart; None = it is converted."""
    moot: Any = False
    """The value of a left key that asks for nothing, or for what happens here anyway: it need not be reported."""


def read(data: object, where: str, keys: Mapping[str, Key], left: list[Left]) -> dict[str, Any]:
    """Returns the values of the mapping `data` as numbers, texts and so on, without those that are null.

    Keys that have no counterpart are appended to `left`, and are not in the result.

    Raises:
        UserError: `data` is not a mapping; a key that `keys` lacks; a value of another kind or out of range.
    """
    values: dict[str, Any] = {}
    for name, given in mapping(data, where).items():
        full = f"{where}.{name}" if where else name
        key = keys.get(name)
        if key is None:
            raise unknown(full, list(keys))
        if given is None:
            continue
        value = _typed(given, full, key)
        if key.left is None:
            values[name] = value
        elif not (isinstance(value, bool) and value == key.moot):
            left.append(Left(full, given, key.left))
    return values


def mapping(data: object, where: str) -> dict[str, Any]:
    """Returns `data` with its keys as texts; None is an empty mapping. UserError if it is something else."""
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected keys of its own, not {_seen(data)}")
    return {str(name): value for name, value in data.items()}


def number(value: object, where: str) -> float:
    """Returns `value` as a finite number. A text is taken too: YAML 1.1 reads `5e5`, without a dot, as one."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{where}: expected a number, not {_seen(value)}")
    return found


def unknown(key: str, known: list[str]) -> UserError:
    """Returns the error for a dotted `key` that ML-Agents does not have; `known` are those that it may be."""
    parent, dot, last = key.rpartition(".")
    if close := difflib.get_close_matches(last, known, n=1):
        return UserError(f"unknown key {key}; did you mean {parent}{dot}{close[0]}?")
    return UserError(f"unknown key {key}; {parent or 'the file'} may hold {', '.join(known)}")


def _typed(value: Any, where: str, key: Key) -> Any:
    if key.kind is Kind.group:
        return mapping(value, where)
    if key.kind is Kind.switch:
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected true or false, not {_seen(value)}")
        return value
    if key.kind is Kind.words:
        if not isinstance(value, list) or any(isinstance(word, (list, dict)) for word in value):
            raise UserError(f"{where}: expected a list of texts, not {_seen(value)}")
        return [str(word) for word in value]
    if key.kind is Kind.intervals:
        if not isinstance(value, list) or not value:
            raise UserError(f"{where}: expected a list such as [[7, 10], [15, 20]], not {_seen(value)}")
        return [_interval(pair, where) for pair in value]
    if key.kind is Kind.text:
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise UserError(f"{where}: expected a text, not {_seen(value)}")
        if key.choices and value not in key.choices:
            raise UserError(f"{where}={value}: expected one of {', '.join(key.choices)}")
        return str(value)
    return _number_in_range(value, where, key)


def _interval(pair: Any, where: str) -> list[float]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise UserError(f"{where}: an interval is its two ends, such as [7, 10], not {_seen(pair)}")
    return [number(end, where) for end in pair]


def _number_in_range(value: Any, where: str, key: Key) -> float:
    found = number(value, where)
    if key.kind is Kind.count and found != int(found):
        raise UserError(f"{where}: expected a whole number, not {_seen(value)}")
    if key.least is not None and found < key.least:
        raise UserError(f"{where}={value} must be at least {key.least:g}")
    if key.above is not None and found <= key.above:
        raise UserError(f"{where}={value} must be above {key.above:g}")
    if key.most is not None and found > key.most:
        raise UserError(f"{where}={value} must be at most {key.most:g}")
    return int(found) if key.kind is Kind.count else found


def _seen(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _left(kind: Kind, remedy: str, moot: Any = False) -> Key:
    return Key(kind, left=remedy, moot=moot)


_COUNT, _NUMBER, _SWITCH = Key(Kind.count), Key(Kind.number), Key(Kind.switch)
_TEXT, _GROUP = Key(Kind.text), Key(Kind.group)
_POSITIVE_COUNT, _NOT_NEGATIVE = Key(Kind.count, least=1), Key(Kind.number, least=0)
_POSITIVE = Key(Kind.number, above=0)
_SCHEDULE = Key(Kind.text, choices=("linear", "constant"))
_SHARE = Key(Kind.number, least=0, most=1)

_UNREADABLE = "checkpoints of ML-Agents cannot be read: training starts from the beginning"
_RESTARTS = "a player that keeps failing is restarted after longer and longer waits: nothing to do"

_GROUPS = "behaviors default_settings env_settings engine_settings environment_parameters checkpoint_settings"
FILE: dict[str, Key] = {
    **dict.fromkeys((*_GROUPS.split(), "torch_settings"), _GROUP),
    "debug": _left(Kind.switch, "there is no more to log: nothing to do"),
}
BEHAVIOR: dict[str, Key] = {
    "trainer_type": _TEXT,
    "hyperparameters": _GROUP,
    "network_settings": _GROUP,
    "reward_signals": _GROUP,
    "max_steps": _POSITIVE_COUNT,
    "keep_checkpoints": _POSITIVE_COUNT,
    "self_play": _GROUP,
    "behavioral_cloning": _GROUP,
    "time_horizon": _left(
        Kind.count, "not needed: rows are linked to the end of their episode, none is cut off before"
    ),
    "summary_freq": _left(Kind.count, "figures come by time: run.log_seconds"),
    "checkpoint_interval": _left(Kind.count, "checkpoints come by time: checkpoint.every_seconds"),
    "even_checkpoints": _left(Kind.switch, "checkpoints come by time: checkpoint.every_seconds"),
    "threaded": _left(
        Kind.switch, "games go on during an update; with PPO, algorithm.max_lag=0 lets them wait for it", moot=True
    ),
    "init_path": _left(Kind.text, f"{_UNREADABLE}; init=runs/... starts from weights that were trained here"),
    "framework": _left(Kind.text, "networks are always torch's: nothing to do"),
}
PPO: dict[str, Key] = {
    "batch_size": _POSITIVE_COUNT,
    "buffer_size": _POSITIVE_COUNT,
    "learning_rate": _POSITIVE,
    "learning_rate_schedule": _SCHEDULE,
    "num_epoch": _POSITIVE_COUNT,
    "beta": _NOT_NEGATIVE,
    "beta_schedule": _SCHEDULE,
    "epsilon": _POSITIVE,
    "epsilon_schedule": _SCHEDULE,
    "lambd": _SHARE,
    "shared_critic": _SWITCH,
}
SAC: dict[str, Key] = {
    "batch_size": _POSITIVE_COUNT,
    "buffer_size": _POSITIVE_COUNT,
    "learning_rate": _POSITIVE,
    "learning_rate_schedule": _SCHEDULE,
    "buffer_init_steps": Key(Kind.count, least=0),
    "tau": Key(Kind.number, above=0, most=1),
    "steps_per_update": _POSITIVE,
    "init_entcoef": _POSITIVE,
    "save_replay_buffer": _left(
        Kind.switch, "checkpoints hold the buffer, which checkpoint.replay=false leaves out", moot=True
    ),
    "reward_signal_steps_per_update": _POSITIVE,
    "reward_signal_num_update": _POSITIVE,
}
REWARD_SIGNAL_STEPS = ("reward_signal_num_update", "reward_signal_steps_per_update")
"""Two names of one key of SAC's: the documentation's table has the first, its examples and the code the second."""
HYPERPARAMETERS = {"ppo": PPO, "sac": SAC}
"""Keys of `hyperparameters`, by `trainer_type`."""

ENCODERS = {"simple": "simple", "nature_cnn": "nature", "resnet": "impala"}
"""Our names of encoders of images."""
_ENCODER = Key(Kind.text, choices=(*ENCODERS, "match3", "fully_connected"))
NETWORK: dict[str, Key] = {
    "normalize": _SWITCH,
    "hidden_units": _POSITIVE_COUNT,
    "num_layers": Key(Kind.count, least=0),
    "memory": _GROUP,
    "vis_encode_type": _ENCODER,
    "vis_encoder_type": _ENCODER,
    "goal_conditioning_type": _left(Kind.text, "goal signals are observations like any other: nothing to do"),
    "deterministic": _left(Kind.switch, "training draws actions; trainer.evaluate takes the likeliest"),
}
ENCODER_TYPE = ("vis_encoder_type", "vis_encode_type")
"""Two names of one key: the documentation's table once had the first, the code has the second."""
MEMORY: dict[str, Key] = {"memory_size": _POSITIVE_COUNT, "sequence_length": _POSITIVE_COUNT}

_SIGNAL = {"strength": _NOT_NEGATIVE, "gamma": _SHARE, "network_settings": _GROUP}
_LEARNED = {**_SIGNAL, "learning_rate": _POSITIVE, "encoding_size": _POSITIVE_COUNT}
_ONE_EACH = "each gradient step of the algorithm takes one batch of demonstrations along: nothing to do"
SIGNALS: dict[str, dict[str, Key]] = {
    "extrinsic": _SIGNAL,
    "curiosity": _LEARNED,
    "gail": {
        **_LEARNED,
        "use_actions": _SWITCH,
        "use_vail": _left(
            Kind.switch, "not supported yet: left out; the gradient penalty alone smooths the discriminator"
        ),
        "demo_path": _TEXT,
    },
    "rnd": _LEARNED,
}
"""Keys of each reward signal."""
CLONING: dict[str, Key] = {
    "demo_path": _TEXT,
    "steps": Key(Kind.count, least=0),
    "strength": _NOT_NEGATIVE,
    "batch_size": Key(Kind.count, least=0),
    "samples_per_update": _left(Kind.count, _ONE_EACH),
    "num_epoch": _left(Kind.count, _ONE_EACH),
}

ENV: dict[str, Key] = {
    "env_path": _TEXT,
    "env_args": Key(Kind.words),
    "num_envs": _POSITIVE_COUNT,
    "num_areas": _POSITIVE_COUNT,
    "timeout_wait": _POSITIVE,
    "max_lifetime_restarts": Key(Kind.count, least=-1),
    "seed": _COUNT,
    "base_port": _left(Kind.count, "the system picks a free port for each player, the Editor's is 5004: nothing to do"),
    "restarts_rate_limit_n": _left(Kind.count, _RESTARTS),
    "restarts_rate_limit_period_s": _left(Kind.number, _RESTARTS),
}
ENGINE: dict[str, Key] = {
    "width": _POSITIVE_COUNT,
    "height": _POSITIVE_COUNT,
    "quality_level": Key(Kind.count, least=0),
    "time_scale": _POSITIVE,
    "target_frame_rate": Key(Kind.count, least=-1),
    "capture_frame_rate": Key(Kind.count, least=0),
    "no_graphics": _SWITCH,
    "no_graphics_monitor": _left(
        Kind.switch, "all players are alike: env.no_graphics=true for none with a window, false for all"
    ),
}
CHECKPOINT: dict[str, Key] = {
    "run_id": _TEXT,
    "results_dir": _left(Kind.text, "a run's folder is runs/<name>/<time>, or what run.dir= names"),
    "initialize_from": _left(Kind.text, f"{_UNREADABLE}; init=runs/... starts from weights that were trained here"),
    "resume": _left(Kind.switch, f"{_UNREADABLE}; resume=runs/... goes on with a run of here"),
    "load_model": _left(Kind.switch, f"{_UNREADABLE}; resume=runs/... goes on with a run of here"),
    "force": _left(Kind.switch, "every run gets a folder of its own, none is written over: nothing to do"),
    "train_model": _left(Kind.switch, "outstep train always trains: nothing to do", moot=True),
    "inference": _left(Kind.switch, "a trained policy is played by outstep evaluate run=runs/... env=unity"),
}
TORCH: dict[str, Key] = {"device": _TEXT}

SAMPLER = {"sampler_type": _TEXT, "sampler_parameters": _GROUP}
_SAMPLER_SEED = {"seed": _left(Kind.count, "samplers are seeded by the run's seed: nothing to do")}
SAMPLERS: dict[str, dict[str, Key]] = {
    "constant": {"value": _NUMBER, **_SAMPLER_SEED},
    "uniform": {"min_value": _NUMBER, "max_value": _NUMBER, **_SAMPLER_SEED},
    "gaussian": {"mean": _NUMBER, "st_dev": _NOT_NEGATIVE, **_SAMPLER_SEED},
    "multirangeuniform": {"intervals": Key(Kind.intervals), **_SAMPLER_SEED},
}
"""Keys of `sampler_parameters`, by `sampler_type`."""
SAMPLER_DEFAULTS: dict[str, dict[str, Any]] = {
    "constant": {"value": 0.0},
    "uniform": {"min_value": 0.0, "max_value": 1.0},
    "gaussian": {"mean": 1.0, "st_dev": 1.0},
    "multirangeuniform": {"intervals": [[0.0, 1.0]]},
}

NETWORK_DEFAULTS: dict[str, Any] = {
    "normalize": False,
    "hidden_units": 128,
    "num_layers": 2,
    "vis_encode_type": "simple",
    "memory": None,
}
MEMORY_DEFAULTS: dict[str, Any] = {"memory_size": 128, "sequence_length": 64}
HYPERPARAMETER_DEFAULTS: dict[str, dict[str, Any]] = {
    "ppo": {
        "batch_size": 1024,
        "buffer_size": 10240,
        "learning_rate": 3e-4,
        "num_epoch": 3,
        "beta": 5e-3,
        "epsilon": 0.2,
        "lambd": 0.95,
        "shared_critic": False,
    },
    "sac": {
        "batch_size": 128,
        "buffer_size": 50000,
        "learning_rate": 3e-4,
        "buffer_init_steps": 0,
        "tau": 0.005,
        "steps_per_update": 1.0,
        "init_entcoef": 1.0,
    },
}
"""ML-Agents' defaults, by `trainer_type`; those of schedules depend on one another (`trainer.convert`)."""
_LEARNED_DEFAULTS: dict[str, Any] = {
    "strength": 1.0,
    "gamma": 0.99,
    "learning_rate": 3e-4,
    "network_settings": NETWORK_DEFAULTS,
}
SIGNAL_DEFAULTS: dict[str, dict[str, Any]] = {
    "extrinsic": {"strength": 1.0, "gamma": 0.99},
    "curiosity": _LEARNED_DEFAULTS,
    "gail": {**_LEARNED_DEFAULTS, "use_actions": False},
    "rnd": {**_LEARNED_DEFAULTS, "learning_rate": 1e-4},
}
CLONING_DEFAULTS: dict[str, Any] = {"steps": 0, "strength": 1.0, "batch_size": 0}
