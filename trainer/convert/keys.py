"""Every key of an ML-Agents trainer YAML: what values it takes, and what to do where it has no counterpart here.

Follows `mlagents.trainers.settings` of ML-Agents 1.1.0, its Training-Configuration-File.md and its example configs.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from envs.spec import UserError

Read = Callable[[Any, str], Any]
"""Returns the value that stands at a dotted place, as a number, a text and so on; UserError if it is none."""


LOST, OTHER, NOTHING = "lost", "means something else", "nothing to do"
KINDS = (LOST, OTHER, NOTHING)
"""What becomes of a key that is not converted as it stands."""


class Left(NamedTuple):
    """A key that was not converted, or that does not mean quite the same here."""

    key: str
    """Where it stands in the YAML, dotted."""
    value: Any
    remedy: str
    """What happens instead, and what to do."""
    kind: str = OTHER
    """One of `KINDS`."""


@dataclass(frozen=True)
class Key:
    """One key of the YAML."""

    read: Read
    default: Any = None
    """ML-Agents' own; None = it has none, or one that depends on other keys."""
    ours: str = ""
    """Our name, where it is another and the value stays as it is."""
    left: str = ""
    """Remedy of a key that has no counterpart; empty = it is converted."""
    kind: str = LOST
    """One of `KINDS`, of a key that is left."""
    moot: bool = False
    """The value of a left key that asks for nothing, or for what happens here anyway: it need not be reported."""


def read(data: object, where: str, keys: Mapping[str, Key], left: list[Left]) -> dict[str, Any]:
    """Returns the values of the mapping `data` as numbers, texts and so on, without those that are null.

    Keys that have no counterpart, or that ML-Agents does not know, are appended to `left`, and are not in the result.

    Raises:
        UserError: `data` is not a mapping; a misspelled key; a value of another kind or out of range.
    """
    values: dict[str, Any] = {}
    for name, given in mapping(data, where).items():
        full = f"{where}.{name}" if where else name
        key = keys.get(name)
        if key is None:
            left.append(unknown(full, given, list(keys)))
            continue
        if given is None:
            continue
        value = key.read(given, full)
        if not key.left:
            values[name] = value
        elif not (isinstance(value, bool) and value == key.moot):
            left.append(Left(full, given, key.left, key.kind))
    return values


def defaults(keys: Mapping[str, Key]) -> dict[str, Any]:
    """Returns ML-Agents' defaults of the keys that have one."""
    return {name: key.default for name, key in keys.items() if key.default is not None}


def renamed(values: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Returns what `read` returned, by our names."""
    return {keys[name].ours or name: value for name, value in values.items()}


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


def unknown(key: str, value: Any, known: list[str]) -> Left:
    """Returns what is to be said of a dotted `key` that ML-Agents 1.1.0 does not have; `known` are those that it has.

    Raises UserError if it is misspelled, as ML-Agents would.
    """
    parent, dot, last = key.rpartition(".")
    if close := difflib.get_close_matches(last, known, n=1):
        raise UserError(f"unknown key {key}; did you mean {parent}{dot}{close[0]}?")
    return Left(key, value, f"unknown; {parent or 'the file'} may hold {', '.join(known)}", LOST)


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{where}: expected true or false, not {_seen(value)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise UserError(f"{where}: expected a text, not {_seen(value)}")
    return str(value)


def _texts(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or any(isinstance(word, (list, dict)) for word in value):
        raise UserError(f"{where}: expected a list of texts, not {_seen(value)}")
    return [str(word) for word in value]


def _intervals(value: object, where: str) -> list[list[float]]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: expected a list such as [[7, 10], [15, 20]], not {_seen(value)}")
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UserError(f"{where}: an interval is its two ends, such as [7, 10], not {_seen(pair)}")
    return [[number(end, where) for end in pair] for pair in value]


def _one_of(*choices: str) -> Read:
    def read_choice(value: object, where: str) -> str:
        if (text := _text(value, where)) not in choices:
            raise UserError(f"{where}={value}: expected one of {', '.join(choices)}")
        return text

    return read_choice


def _number(*, least: float = -math.inf, above: float = -math.inf, most: float = math.inf, whole: bool = False) -> Read:
    def read_number(value: object, where: str) -> float:
        found = number(value, where)
        if whole and found != int(found):
            raise UserError(f"{where}: expected a whole number, not {_seen(value)}")
        if found < least:
            raise UserError(f"{where}={value} must be at least {least:g}")
        if found <= above:
            raise UserError(f"{where}={value} must be above {above:g}")
        if found > most:
            raise UserError(f"{where}={value} must be at most {most:g}")
        return int(found) if whole else found

    return read_number


def _seen(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_WHOLE, _FROM_0, _FROM_1 = _number(whole=True), _number(whole=True, least=0), _number(whole=True, least=1)
_NOT_NEGATIVE, _POSITIVE, _SHARE = _number(least=0), _number(above=0), _number(least=0, most=1)
_SCHEDULE = _one_of("linear", "constant")

_RESUME = (
    "what an optimiser of ML-Agents has gathered is not read: init=results/<run-id> begins with its weights, and "
    "resume=runs/... goes on with a run of here"
)
_RESTARTS = "a player that keeps failing is restarted after longer and longer waits"

_GROUPS = "behaviors default_settings env_settings engine_settings environment_parameters checkpoint_settings"
FILE = {
    **dict.fromkeys((*_GROUPS.split(), "torch_settings"), Key(mapping)),
    "debug": Key(_switch, left="there is no more to log", kind=NOTHING),
}
BEHAVIOR = {
    "trainer_type": Key(_text, "ppo"),
    "hyperparameters": Key(mapping),
    "network_settings": Key(mapping),
    "reward_signals": Key(mapping),
    "max_steps": Key(_FROM_1, 500_000),
    "keep_checkpoints": Key(_FROM_1, 5),
    "summary_freq": Key(_FROM_1, 50_000),
    "checkpoint_interval": Key(_FROM_1, 500_000),
    "even_checkpoints": Key(_switch, False),
    "self_play": Key(mapping),
    "behavioral_cloning": Key(mapping),
    "time_horizon": Key(
        _FROM_1,
        left="rows are linked to the end of their episode or of the buffer, so returns look further than this",
        kind=OTHER,
    ),
    "threaded": Key(
        _switch,
        left="games go on during an update, on data that may be one version older; with PPO, algorithm.max_lag=0 lets "
        "them wait for it",
        kind=OTHER,
        moot=True,
    ),
    "init_path": Key(_text),
    "framework": Key(_text, left="networks are always torch's", kind=NOTHING),
}
PPO = {
    "batch_size": Key(_FROM_1, 1024, ours="minibatch_size"),
    "buffer_size": Key(_FROM_1, 10240, ours="rollout_size"),
    "learning_rate": Key(_POSITIVE, 3e-4),
    "learning_rate_schedule": Key(_SCHEDULE),
    "num_epoch": Key(_FROM_1, 3, ours="epochs"),
    "beta": Key(_NOT_NEGATIVE, 5e-3, ours="entropy_coef"),
    "beta_schedule": Key(_SCHEDULE),
    "epsilon": Key(_POSITIVE, 0.2, ours="clip"),
    "epsilon_schedule": Key(_SCHEDULE),
    "lambd": Key(_SHARE, 0.95, ours="gae_lambda"),
    "shared_critic": Key(_switch, False, ours="shared_trunk"),
}
SAC = {
    "batch_size": Key(_FROM_1, 128),
    "buffer_size": Key(_FROM_1, 50000),
    "learning_rate": Key(_POSITIVE, 3e-4),
    "learning_rate_schedule": Key(_SCHEDULE),
    "buffer_init_steps": Key(_FROM_0, 0),
    "tau": Key(_number(above=0, most=1), 0.005),
    "steps_per_update": Key(_POSITIVE, 1.0),
    "init_entcoef": Key(_POSITIVE, 1.0),
    "save_replay_buffer": Key(
        _switch, left="checkpoints hold the buffer, which checkpoint.replay=false leaves out", kind=NOTHING, moot=True
    ),
    "reward_signal_steps_per_update": Key(_POSITIVE),
    "reward_signal_num_update": Key(_POSITIVE),
}
REWARD_SIGNAL_STEPS = ("reward_signal_num_update", "reward_signal_steps_per_update")
"""Two names of one key of SAC's: the documentation's table has the first, its examples and the code the second."""
HYPERPARAMETERS = {"ppo": PPO, "sac": SAC, "poca": {name: key for name, key in PPO.items() if name != "shared_critic"}}
"""Keys of `hyperparameters`, by the algorithm that learns here."""
ON_POLICY = ("ppo", "poca")
"""Algorithms that take PPO's."""

ENCODERS = {
    "simple": "simple",
    "nature_cnn": "nature",
    "resnet": "impala",
    "match3": "match3",
    "fully_connected": "fully_connected",
}
"""Our names of encoders of images."""
_ENCODER = _one_of(*ENCODERS)
GOALS = {"hyper": "hyper", "none": "input"}
"""Our names of what goal signals are to a network."""
NETWORK = {
    "normalize": Key(_switch, False),
    "hidden_units": Key(_FROM_1, 128),
    "num_layers": Key(_FROM_0, 2),
    "memory": Key(mapping),
    "vis_encode_type": Key(_ENCODER, "simple"),
    "vis_encoder_type": Key(_ENCODER),
    "goal_conditioning_type": Key(_one_of(*GOALS), "hyper"),
    "deterministic": Key(_switch, left="training draws actions; outstep evaluate takes the likeliest", kind=OTHER),
}
ENCODER_TYPE = ("vis_encoder_type", "vis_encode_type")
"""Two names of one key: the documentation's table once had the first, the code has the second."""
MEMORY = {"memory_size": Key(_FROM_1, 128), "sequence_length": Key(_FROM_1, 64)}

_EXTRINSIC = {"strength": Key(_NOT_NEGATIVE, 1.0), "gamma": Key(_SHARE, 0.99), "network_settings": Key(mapping)}
_LEARNED = {
    **_EXTRINSIC,
    "network_settings": Key(mapping, defaults(NETWORK)),
    "learning_rate": Key(_POSITIVE, 3e-4),
    "encoding_size": Key(_FROM_1),
}
_VAIL = "not supported: the gradient penalty alone smooths the discriminator"
SIGNALS = {
    "extrinsic": _EXTRINSIC,
    "curiosity": _LEARNED,
    "gail": {
        **_LEARNED,
        "use_actions": Key(_switch, False),
        "use_vail": Key(_switch, left=_VAIL),
        "demo_path": Key(_text),
    },
    "rnd": {**_LEARNED, "learning_rate": Key(_POSITIVE, 1e-4)},
}
"""Keys of each reward signal."""
SELF_PLAY = {
    "save_steps": Key(_FROM_1, 20000, ours="save_samples"),
    "team_change": Key(_FROM_1, ours="team_change_samples"),
    "swap_steps": Key(
        _FROM_0, left="an opponent is drawn for each episode of a team in an instance, and kept to its end", kind=OTHER
    ),
    "window": Key(_FROM_1, 10),
    "play_against_latest_model_ratio": Key(_SHARE, 0.5, ours="latest_ratio"),
    "initial_elo": Key(number, 1200.0, ours="rating"),
}
CLONING = {
    "demo_path": Key(_text),
    "steps": Key(_FROM_0, 0),
    "strength": Key(_NOT_NEGATIVE, 1.0),
    "batch_size": Key(_FROM_0, 0),
    "samples_per_update": Key(_FROM_0, 0),
    "num_epoch": Key(_FROM_0, 0),
}

ENV = {
    "env_path": Key(_text, ours="executable"),
    "env_args": Key(_texts, ours="args"),
    "num_envs": Key(_FROM_1, ours="instances"),
    "num_areas": Key(_FROM_1),
    "timeout_wait": Key(_POSITIVE, ours="connect_timeout"),
    "max_lifetime_restarts": Key(_number(whole=True, least=-1), ours="restarts"),
    "seed": Key(_WHOLE),
    "base_port": Key(
        _WHOLE, left="the system picks a free port for each player; the Editor's is env.port=5004", kind=NOTHING
    ),
    "restarts_rate_limit_n": Key(_WHOLE, left=_RESTARTS, kind=OTHER),
    "restarts_rate_limit_period_s": Key(number, left=_RESTARTS, kind=OTHER),
}
ENGINE = {
    "width": Key(_FROM_1),
    "height": Key(_FROM_1),
    "quality_level": Key(_FROM_0),
    "time_scale": Key(_POSITIVE),
    "target_frame_rate": Key(_number(whole=True, least=-1)),
    "capture_frame_rate": Key(_FROM_0),
    "no_graphics": Key(_switch),
    "no_graphics_monitor": Key(
        _switch,
        left="all players are alike: env.no_graphics=true for none with a window, false for all",
        kind=OTHER,
    ),
}
CHECKPOINT = {
    "run_id": Key(_text),
    "results_dir": Key(_text, left="a run's folder is runs/<name>/<time>, or what run.dir= names", kind=OTHER),
    "initialize_from": Key(_text),
    "resume": Key(_switch, left=_RESUME),
    "load_model": Key(_switch, left=_RESUME),
    "force": Key(_switch, left="every run gets a folder of its own, none is written over", kind=NOTHING),
    "train_model": Key(_switch, left="outstep train always trains", kind=NOTHING, moot=True),
    "inference": Key(_switch, left="a trained policy is played by outstep evaluate run=runs/... env=unity", kind=OTHER),
}
TORCH = {"device": Key(_text)}

SAMPLER = {"sampler_type": Key(_text), "sampler_parameters": Key(mapping)}
_SEED = {"seed": Key(_WHOLE, left="samplers are seeded by the run's seed and their names", kind=OTHER)}
SAMPLERS = {
    "constant": {"value": Key(number, 0.0), **_SEED},
    "uniform": {"min_value": Key(number, 0.0, ours="min"), "max_value": Key(number, 1.0, ours="max"), **_SEED},
    "gaussian": {"mean": Key(number, 1.0), "st_dev": Key(_NOT_NEGATIVE, 1.0, ours="deviation"), **_SEED},
    "multirangeuniform": {"intervals": Key(_intervals, [[0.0, 1.0]]), **_SEED},
}
"""Keys of `sampler_parameters`, by `sampler_type`."""

_SMOOTHED = (
    "ML-Agents smooths with every message, which soon comes out as the mean itself: that is what is compared here"
)
_RESETS = "episodes under way end as they began, those that follow begin in the next lesson: nothing to do"
LESSON = {"name": Key(_text), "value": Key(lambda value, where: value), "completion_criteria": Key(mapping)}
CRITERIA = {
    "behavior": Key(_text),
    "measure": Key(_one_of("reward", "progress", "Elo"), "reward"),
    "min_lesson_length": Key(_FROM_0, 0),
    "signal_smoothing": Key(_switch, left=_SMOOTHED, kind=OTHER),
    "threshold": Key(number, 0.0),
    "require_reset": Key(_switch, left=_RESETS, kind=OTHER),
}
"""Keys of a lesson's `completion_criteria`."""
