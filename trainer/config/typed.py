"""The types of a configuration's algorithms and reward signals, which follow from the names that it gives them."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from algorithms.registry import ALGORITHMS, algorithm_settings
from algorithms.rewards.registry import CustomSignalSettings, default_rewards, signal_settings
from envs.spec import UserError
from trainer.config.aliases import rename_old_keys
from trainer.config.interpolations import unresolved, without_text
from trainer.config.schema import BehaviorConfig

TYPED = ("algorithm", "reward", "behaviors")
"""Where algorithms and reward signals stand."""


def type_algorithms(node: DictConfig, shown: bool = False) -> None:
    """Gives all algorithms and reward signals of a configuration the settings classes that their names stand for.

    Each of its `behaviors` is then whole: what it does not give is inherited, or another algorithm's own.
    Interpolations stay as they are; `shown`: they are text, and defaults take their place where a setting is no text.

    Raises:
        UserError: a name that stands for nothing.
        OmegaConfBaseException: unknown keys and wrong values, by their whole key.
    """
    given: dict[str, dict[str, Any]] = {key: unresolved(node[key]) for key in TYPED}
    given["algorithm"]["name"] = node.algorithm.name
    behaviors = given.pop("behaviors")
    schema = OmegaConf.create({"algorithm": _algorithm(given["algorithm"], "algorithm", None)})
    schema.reward = _rewards(given["reward"], "reward", OmegaConf.create(default_rewards()))
    top = OmegaConf.merge(schema, without_text(given, schema) if shown else given)
    whole = OmegaConf.create({"behaviors": {}})
    for name in behaviors:
        key = f"behaviors.{name}"
        own = behaviors[name] = _mapping(key, behaviors[name])
        for each in own.keys() & {"algorithm", "reward"}:
            own[each] = _mapping(f"{key}.{each}", own[each])
        if "name" in own.get("algorithm", {}):
            own["algorithm"]["name"] = node.behaviors[name].algorithm.name
        rename_old_keys(own, default_behavior(own.get("algorithm", {}).get("name", top.algorithm.name)))
        typed = open_node(OmegaConf.structured(BehaviorConfig))
        typed.algorithm = _algorithm(own.get("algorithm", {}), f"{key}.algorithm", top.algorithm)
        typed.reward = _rewards(own.get("reward", {}), f"{key}.reward", top.reward)
        typed.self_play = node.self_play
        whole.behaviors[name] = typed
    node.algorithm, node.reward = top.algorithm, top.reward
    of_each = {"behaviors": behaviors}
    node.behaviors = OmegaConf.merge(whole, without_text(of_each, whole) if shown else of_each).behaviors


def _algorithm(given: dict[str, Any], key: str, inherited: DictConfig | None) -> DictConfig:
    """Returns the settings of the algorithm whose name was given; inherited ones if it is the same."""
    if inherited is not None and given.get("name", inherited.name) == inherited.name:
        return inherited
    if given["name"] not in ALGORITHMS.names():
        ALGORITHMS.check(str(given["name"]).replace(":", "."), f"{key}.name")
    typed = OmegaConf.structured(algorithm_settings(given["name"], f"{key}.name"))
    typed.name = given["name"]
    return cast(DictConfig, typed)


def _rewards(given: dict[str, Any], key: str, inherited: DictConfig) -> DictConfig:
    """Returns the settings of all signals; the values given to a user's own are gathered in its `settings`."""
    rewards = OmegaConf.create({})
    for name in [*map(str, inherited), *(name for name in given if name not in inherited)]:
        own = given[name] = _mapping(f"{key}.{name}", given.get(name))
        before = inherited.get(name, {})
        rewards[name] = before or OmegaConf.structured(signal_settings(name, own, f"{key}.{name}"))
        if "path" in [*before, *own]:
            given[name] = CustomSignalSettings.gathered(own)
    return rewards


def default_behavior(algorithm: object) -> BehaviorConfig:
    """Returns the default settings of a behavior with the algorithm of this name."""
    known = algorithm in ALGORITHMS.names()
    return BehaviorConfig(algorithm_settings(str(algorithm))() if known else None, default_rewards())


def _mapping(key: str, value: Any) -> dict[str, Any]:
    """Returns the keys below `key`; a bare `key:` in YAML has none."""
    if value is None or isinstance(value, dict):
        return value or {}
    hint = f"; {key}.name={value} chooses an algorithm" if value in ALGORITHMS.names() else ""
    raise UserError(f"{key}={value}: it holds keys of its own and takes no value{hint}")


def open_node(node: DictConfig, to_any_key: bool = False) -> DictConfig:
    """Makes a node writable, which frozen dataclasses are not, and open to keys that its dataclass lacks."""
    OmegaConf.set_readonly(node, None)
    OmegaConf.set_struct(node, False if to_any_key else None)
    for key in node:
        if not OmegaConf.is_missing(node, key) and isinstance(child := node[key], DictConfig):
            open_node(child, to_any_key)
    return node
