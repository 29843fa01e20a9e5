"""One message for what is wrong with a configuration: the key, the value seen, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from envs.spec import UserError
from trainer.config.aliases import our_keys

REFUSED = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError)
"""What Hydra and OmegaConf raise of bad input."""

_KINDS = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}


class UnknownKey(UserError):
    """A key that does not exist."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def refusal(error: Exception, overrides: Sequence[str] = ()) -> UserError:
    """Returns in one message what Hydra or OmegaConf refused of `overrides` (`key=value`) or of a YAML file."""
    refused = _refusal(error, overrides)
    file = re.match("In '(.+?)': ", str(error))
    if file is None or isinstance(error, MissingConfigException):
        return refused
    message = f"{refused} (in {file[1]}.yaml)"
    return UnknownKey(message, refused.key) if isinstance(refused, UnknownKey) else UserError(message)


def unknown_key(key: str, known: Sequence[str]) -> UnknownKey:
    """Returns the refusal of a dotted key that does not exist; `known` are the last parts of the keys beside it."""
    parent, dot, last = key.rpartition(".")
    if ours := our_keys(key, known):
        beside = [each.rpartition(".")[2] for each in ours if each.rpartition(".")[0] == parent]
        note = ", of another algorithm" if beside and not set(beside) & set(known) else ""
        return UnknownKey(f"unknown key {key}; here it is {' or '.join(ours)}{note}", key)
    if close := difflib.get_close_matches(last, known, n=1):
        return UnknownKey(f"unknown key {key}; did you mean {parent}{dot}{close[0]}?", key)
    return UnknownKey(f"unknown key {key}; {parent or 'the configuration'} holds {', '.join(known)}", key)


def missing(key: str) -> UserError:
    """Returns the refusal of a configuration without a value that it needs."""
    example = {"env.id": "CartPole-v1", "run": "runs/...", "to": "Game.onnx", "model": "Game.onnx"}.get(key, "...")
    return UserError(f"{key} is missing: give it, for example {key}={example}")


def misused(message: str) -> NoReturn:
    """Stands in for `ArgumentParser.error`, which would print the usage and exit."""
    raise UserError(f"{message}; see --help")


def one_line(error: BaseException) -> str:
    """Returns an error's message without line breaks."""
    return " ".join(str(error).split())


def _refusal(error: Exception, overrides: Sequence[str]) -> UserError:
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return UserError(f"cannot read {error.override!r}: write key=value, and quote values that hold = , [ ] {{ }}")
    if str(error).startswith("Config group override must be"):
        culprit = next(
            (o for o in overrides if re.fullmatch(r"\w+=(null|true|false|[\d.]+|\{.*\})", o)), "a config group"
        )
        return UserError(f"{culprit}: a config group takes the name of one of its choices")
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OmegaConfBaseException) and cause.full_key):
        cause = cause.__cause__ or cause.__context__
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return UserError(one_line(error))
    key = cause.full_key
    if isinstance(cause, MissingMandatoryValue):
        return missing(key)
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        parent = cause.parent_node
        return unknown_key(key, [str(k) for k in parent if k != "hydra"] if isinstance(parent, DictConfig) else [])
    given = dict(o.lstrip("+").split("=", 1) for o in overrides if "=" in o)
    top = key.partition("[")[0]
    seen = f"{top}={given[top]}" if top in given else top
    return UserError(f"{seen}: {_expected(str(cause).splitlines()[0])}")


def _unknown_choice(error: MissingConfigException) -> UserError:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group or error.options is None:
        return UserError(f"no configuration {error.missing_cfg_file!r} among the YAML files")
    options = [o for o in error.options if not o.startswith("_")]
    close = difflib.get_close_matches(choice, options, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return UserError(f"unknown {group} {choice!r}; {meant}there is {', '.join(options)}")


def _expected(message: str) -> str:
    if match := re.search(r"Value '(.*)' of type '.*' could not be converted to (\w+)", message):
        return f"expected {_KINDS.get(match[2], match[2].lower())}, not {match[1]!r}"
    if "is not a valid bool" in message:
        return "expected true or false"
    if match := re.search(r"expected one of \[(.*)\]", message):
        return f"expected one of {match[1]}"
    if "is not Optional" in message:
        return "it needs a value, null is none"
    if "is not a ListConfig" in message:
        return "expected a list, such as [1,2]"
    if "is not a subclass of" in message or "Cannot assign" in message:
        return "it holds keys of its own and takes no value"
    return message
