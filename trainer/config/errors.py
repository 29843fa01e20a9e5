"""One message for what is wrong with a configuration: the key, the value seen, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from envs.spec import UserError
from trainer.config.aliases import our_keys, without_behavior
from trainer.config.words import GYM_ID, close_choice, file_of_choice, in_folder, meant_keys, misread

REFUSED = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError)
"""What Hydra and OmegaConf raise of bad input."""

_KINDS = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}


class UnknownKey(UserError):
    """A key that does not exist."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def refusal(error: Exception, overrides: Sequence[str] = (), keys: Sequence[str] = ()) -> UserError:
    """Returns in one message what Hydra or OmegaConf refused of `overrides` (`key=value`) or of a YAML file.

    `keys` are all dotted keys of the command, among which one may be meant.
    """
    refused = _refusal(error, overrides, keys)
    file = re.match("In '(.+?)': ", str(error))
    if file is None or isinstance(error, MissingConfigException):
        return refused
    message = f"{refused} (in {file[1]}.yaml)"
    return UnknownKey(message, refused.key) if isinstance(refused, UnknownKey) else UserError(message)


def unknown_key(key: str, known: Sequence[str], keys: Sequence[str] = ()) -> UnknownKey:
    """Returns the refusal of a dotted key that does not exist.

    `known` are the last parts of the keys beside it, and `keys` all dotted keys of the command.
    """
    parent, dot, last = key.rpartition(".")
    if ours := [each for each in our_keys(key, known) if not keys or without_behavior(each) in keys]:
        beside = [each.rpartition(".")[2] for each in ours if each.rpartition(".")[0] == parent]
        note = ", of another algorithm" if beside and not set(beside) & set(known) else ""
        return UnknownKey(f"unknown key {key}; here it is {' or '.join(ours)}{note}", key)
    if close := difflib.get_close_matches(last.lower(), known, n=1):
        return UnknownKey(f"unknown key {key}; did you mean {parent}{dot}{close[0]}?", key)
    if meant := [each for each in meant_keys(key, keys) if each not in (key, "experiment")]:
        return UnknownKey(f"unknown key {key}; did you mean {' or '.join(meant)}?", key)
    top = key.partition(".")[0]
    of_another = f". Another {top} has it, which {top}=... chooses" if key in keys else ""
    return UnknownKey(f"unknown key {key}; {parent or 'the configuration'} holds {', '.join(known)}{of_another}", key)


def missing(key: str, keys: Sequence[str] = ()) -> UserError:
    """Returns the refusal of a configuration without a value that it needs; `keys` are all that the command has."""
    to = "hub/game" if "repo" in keys else "Game.onnx"
    example = {"env.id": "CartPole-v1", "run": "runs/...", "to": to, "model": "Game.onnx"}.get(key, "...")
    more = ""
    if key == "env.id" and "experiment" in keys:
        more = ", or a Unity player, env=unity env.executable=Builds/Game, or an experiment, +experiment=basic_ppo"
    return UserError(f"{key} is missing: give it, for example {key}={example}{more}; --help lists all settings")


def misused(message: str) -> NoReturn:
    """Stands in for `ArgumentParser.error`, which would print the usage and exit."""
    raise UserError(f"{message}; see --help")


def one_line(error: BaseException) -> str:
    """Returns an error's message without line breaks."""
    return " ".join(str(error).split())


def _refusal(error: Exception, overrides: Sequence[str], keys: Sequence[str]) -> UserError:
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return UserError(misread(error.override, overrides, keys))
    if str(error).startswith("Config group override must be"):
        culprit = next(
            (o for o in overrides if re.fullmatch(r"\w*=(null|true|false|[\d.]+|\{.*\})", o)), "a config group"
        )
        if culprit.startswith("="):
            return UserError(misread(culprit, overrides, keys))
        return UserError(f"{culprit}: a config group takes the name of one of its choices")
    if match := re.match(r"Could not override '(.+?)'\.\s+No match in the defaults list", str(error)):
        if match[1] == "experiment" and "experiment" in keys:
            given = next((o for o in overrides if o.startswith("experiment=")), "experiment=...")
            return UserError(f"{given}: an experiment is added to the defaults, write +{given}")
        return unknown_key(match[1], [key for key in keys if "." not in key], keys)
    if match := re.match(r"Ambiguous value for argument '\+*(.*?)'\s", str(error), re.DOTALL):
        key, _, value = match[1].partition("=")
        return UserError(
            f"{match[1]}: numbers have no comma (0.001, 100000); a list is written {key}=[{value}], and -m makes a run "
            "for each of several values"
        )
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OmegaConfBaseException) and cause.full_key):
        cause = cause.__cause__ or cause.__context__
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return UserError(one_line(error))
    key = cause.full_key
    if isinstance(cause, MissingMandatoryValue):
        return missing(key, keys)
    parent = cause.parent_node
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        known = [str(k) for k in parent if k != "hydra"] if isinstance(parent, DictConfig) else []
        return unknown_key(key, known, keys)
    values = dict(o.lstrip("+").split("=", 1) for o in overrides if "=" in o)
    top = key.partition("[")[0]
    seen = f"{top}={values[top]}" if top in values else top
    return UserError(f"{seen}: {_expected(str(cause).splitlines()[0])}{_below(top, keys)}")


def _below(key: str, keys: Sequence[str]) -> str:
    """Returns what may be meant where a group of settings is given a value; empty for other keys."""
    if key == "run":
        return ". Write resume=... to go on with a run, and run.dir=... for the folder of a new one"
    below = [each for each in keys if each.startswith(f"{key}.") and "." not in each[len(key) + 1 :]]
    return f". Its keys are {', '.join(below)}" if below else ""


def _unknown_choice(error: MissingConfigException) -> UserError:
    group, _, choice = (error.missing_cfg_file or "").partition("/")
    if group and not choice and error.missing_cfg_file != group:
        return UserError(f"{group}= is empty: a config group takes the name of one of its choices")
    if not choice:
        return UserError(f"no configuration {error.missing_cfg_file!r} among the YAML files")
    if group == "env" and GYM_ID.fullmatch(choice):
        return UserError(f"unknown env {choice!r}, a kind of environment; a Gymnasium environment is env.id={choice}")
    if group == "env" and Path(choice).is_file():
        return UserError(f"unknown env {choice!r}; a Unity player is env=unity env.executable={choice}")
    if file := file_of_choice(group, choice):
        return UserError(f"unknown {group} {choice!r}; for {file} write {in_folder(file)}")
    if error.options is None:
        return UserError(f"no configuration {error.missing_cfg_file!r} among the YAML files")
    options = [o for o in error.options if not o.startswith("_")]
    close = close_choice(Path(choice).stem, options)
    meant = f"did you mean {close}? " if close else ""
    return UserError(f"unknown {group} {choice!r}; {meant}there is {', '.join(options)}")


def _expected(message: str) -> str:
    if match := re.search(r"Value '(.*)' of type '.*' could not be converted to (\w+)", message):
        whole = re.fullmatch(r"(\d+)\.0", match[1]) if match[2] == "Integer" else None
        seen = f"such as {whole[1]}" if whole else f"not {match[1]!r}"
        return f"expected {_KINDS.get(match[2], match[2].lower())}, {seen}"
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
