"""Files that a configuration names as import paths: `env.id=./envs/castle.py:Castle-v0`."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from envs.imports import absolute

_WORD = r"(?<!\S)env=([^\s'\"]+)"


def resolve_files(node: DictConfig | ListConfig) -> None:
    """Makes the files in import paths absolute, so that a saved configuration can be used from any folder."""
    keys: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if isinstance(value, (DictConfig, ListConfig)):
            resolve_files(value)
        elif isinstance(value, str) and ".py:" in value:
            # `env.player` holds words, one of which may be `env=./envs/castle.py:Castle-v0`.
            resolved, words = re.subn(_WORD, lambda word: f"env={absolute(word[1])}", value)
            resolved = resolved if words else absolute(value)
            if resolved != value:
                node[key] = resolved
