"""`spaces.json` in a run's folder: by behavior, Gymnasium's spaces of what policies take and give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILE = "spaces.json"


def save_spaces(spaces: Mapping[str, Any], folder: Path) -> None:
    """Writes what `EnvConfig.spaces` returns to a run's folder; no file where an environment has none."""
    if spaces:
        (folder / _FILE).write_text(json.dumps(spaces), encoding="utf-8")


def load_spaces(folder: Path) -> dict[str, Any]:
    """Returns what `save_spaces` wrote; nothing if there is none, as in runs of earlier versions."""
    file = folder / _FILE
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
