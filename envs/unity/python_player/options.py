"""The command line of our player: `key=value` words, and the flags that Unity's players take.

    env=basic                 basic, bubble_shooter, or any Gymnasium id (module:Name-v0 imports the module)
    game=duel                 in place of env: duel, keepers, or a PettingZoo environment, module:Name
    behaviors.<pattern>=Name  of a game's agents, by patterns of their names, as in env=pettingzoo; so too
                              teams.<pattern>=0 and groups.<pattern>=1
    kwargs.<name>=<YAML>      keyword arguments of the env
    max_entities=<number>     in an observation that is a Sequence
    goal=<observation>        that is a goal signal
    agents=1                  copies of the env, each an agent, or of the game
    behavior=<name>           of these agents; the env's id without its module if not given
    late=<name>:<message>     one more agent, of another behavior, that first appears in that message
    layout=hwc                of images: hwc, as ML-Agents' packages before 3.0 send them, or chw
    delay=<seconds>           before it connects
    version=1.5.0             of the protocol, as it claims
    fault=<kind>:<message>    die, hang, garbage or quit in the place of that message; NaNs in it (nan), or far too many
                              agents, behaviors or statistics (by these names); or another spec from it on (spec).
                              Messages count from 1, the initialization; agents appear in the third. 0 is before it
                              connects: die:0, hang:0
    once=<file>               the fault is for the first player alone that creates this file
    --mlagents-port 5004      where the trainer listens
    -logFile <file>           takes what the player prints; - is the terminal

Of a word that comes again the last counts. Flags that are not known here are ignored, with their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from envs.gym.adapter import GymEnv
from envs.pettingzoo.environment import GameEnv
from envs.spec import UserError
from envs.unity.protocol.messages import API_VERSION

SHORT_GAMES = {
    "duel": ("envs.games.duel:Duel", {"*": "Duel"}, {"red": 0, "blue": 1}),
    "keepers": ("envs.games.keepers:Keepers", {"striker": "Striker", "goalie": "Goalie"}, {"striker": 0, "goalie": 1}),
}
"""By name: what makes the game, its agents' behaviors and teams."""
SHORT_NAMES = {"basic": "envs.games:Basic-v0", "bubble_shooter": "envs.games:BubbleShooter-v0"}
FAULTS = ("die", "hang", "garbage", "quit", "nan", "spec", "agents", "behaviors", "statistics")
FIRST_WITH_AGENTS = 3
"""The first message in which agents appear."""
DEFAULT_PORT = 5004


class At(NamedTuple):
    """Something that happens at a message: a fault by its kind, a behavior by its name."""

    what: str
    message: int


@dataclass(frozen=True)
class Options:
    """What a player was asked for."""

    env: GymEnv | GameEnv
    behavior: str
    """Of the agents of a Gymnasium env."""
    agents: int = 1
    goal: str | None = None
    late: At | None = None
    layout: str = "hwc"
    delay: float = 0.0
    """Seconds."""
    version: str = API_VERSION
    fault: At | None = None
    once: str | None = None
    port: int = DEFAULT_PORT
    log: str | None = None


def parse(arguments: Sequence[str]) -> Options:
    """Returns what a command line asks for; UserError if a key or a value is unknown, or there is no env."""
    words, flags = _sorted_out(arguments)
    kwargs = {key.partition(".")[2]: _yaml(words.pop(key)) for key in list(words) if key.startswith("kwargs.")}
    by_agent = {key: _patterns(words, key) for key in ("behaviors", "teams", "groups")}
    name, game = words.pop("env", None), words.pop("game", None)
    most = _number("max_entities", words.pop("max_entities"), 1) if "max_entities" in words else None
    env: GymEnv | GameEnv
    if game and not name:
        env = _game(game, kwargs, by_agent)
    elif name and not game:
        env = GymEnv(SHORT_NAMES.get(name, name), kwargs, max_entities=most)
    elif name:
        raise UserError(f"env={name} and game={game}: give one of them.")
    else:
        raise UserError("No env was given. Write env=basic, env=bubble_shooter, env=<Gymnasium id>, or game=duel.")
    unknown = sorted(set(words) - set(_READERS))
    if unknown:
        known = ", ".join(
            ["env", "game", "kwargs.<name>", "behaviors.<pattern>", "max_entities", *_READERS, "launcher"]
        )
        raise UserError(f"Unknown key {unknown[0]!r} (={words[unknown[0]]}). Known are: {known}.")
    given: dict[str, Any] = {"behavior": env.behavior, **{key: _READERS[key](key, words[key]) for key in words}}
    if game and (most or given.get("goal")):
        raise UserError("max_entities= and goal= are for env=, not for a game.")
    if game and given.get("late"):
        raise UserError(f"late={words['late']} is for env=: a game has the agents that it has.")
    if "--mlagents-port" in flags:
        given["port"] = _number("--mlagents-port", flags["--mlagents-port"], 1)
    return Options(env, log=flags.get("-logfile"), **given)


def _patterns(words: dict[str, str], key: str) -> dict[str, Any]:
    """Takes the words `<key>.<pattern>=<value>` out of `words`; returns the values by pattern."""
    found = {word.partition(".")[2]: words.pop(word) for word in list(words) if word.startswith(f"{key}.")}
    if key == "behaviors":
        return {pattern: _text(f"{key}.{pattern}", value) for pattern, value in found.items()}
    return {pattern: _number(f"{key}.{pattern}", value, 0) for pattern, value in found.items()}


def _game(name: str, kwargs: dict[str, Any], by_agent: dict[str, dict[str, Any]]) -> GameEnv:
    none: tuple[str, dict[str, str], dict[str, int]] = (name, {}, {})
    made, behaviors, teams = SHORT_GAMES.get(name, none)
    return GameEnv(
        made,
        kwargs,
        behaviors=by_agent["behaviors"] or behaviors,
        teams=by_agent["teams"] or teams,
        groups=by_agent["groups"],
    )


def _sorted_out(arguments: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns `key=value` words, and flags (in lower case) with their values."""
    words: dict[str, str] = {}
    flags: dict[str, str] = {}
    flag = None
    for argument in arguments:
        # A path may hold "=", and a lone dash is a value.
        value_wanted = flag in ("-logfile", "--mlagents-port")
        if argument.startswith("-") and argument != "-":
            flag = argument.lower()
            flags[flag] = ""
        elif flag is not None and (value_wanted or "=" not in argument):
            flags[flag] = argument
            flag = None
        elif "=" in argument:
            key, _, words[key] = argument.partition("=")
            flag = None
        else:
            raise UserError(f"{argument!r} is neither key=value nor a flag. Write env=basic --mlagents-port 5004.")
    return words, flags


def _yaml(text: str) -> Any:
    import yaml  # for players with kwargs alone

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"kwargs: {text!r} is not YAML ({error}).") from error


def _number(key: str, text: str, least: int, kind: type[int] | type[float] = int) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not least <= value < math.inf:
        words = "a whole number" if kind is int else "seconds"
        raise UserError(f"{key}={text}: it has to be {words}, {least} or more.")
    return value


def _at(key: str, text: str) -> At:
    what, _, message = text.rpartition(":")
    if not what:
        raise UserError(f"{key}={text}: write it as {key}=<{'kind' if key == 'fault' else 'name'}>:<message>.")
    return At(what, _number(key, message, 0))


def _fault(key: str, text: str) -> At:
    fault = _at(key, text)
    if fault.what not in FAULTS:
        raise UserError(f"fault={text}: the kind is one of {', '.join(FAULTS)}.")
    least = {"die": 0, "hang": 0, "garbage": 1, "quit": 1}.get(fault.what, FIRST_WITH_AGENTS)
    if fault.message < least:
        raise UserError(f"fault={text}: for {fault.what} the message is {least} or later.")
    return fault


def _layout(key: str, text: str) -> str:
    if text not in ("hwc", "chw"):
        raise UserError(f"layout={text}: it is hwc or chw.")
    return text


def _text(key: str, text: str) -> str:
    if not text:
        raise UserError(f"{key}= is empty.")
    return text


_READERS: dict[str, Callable[[str, str], Any]] = {
    "agents": lambda key, text: _number(key, text, 1),
    "behavior": _text,
    "goal": _text,
    "late": _at,
    "layout": _layout,
    "delay": lambda key, text: _number(key, text, 0, float),
    "version": _text,
    "fault": _fault,
    "once": _text,
}
