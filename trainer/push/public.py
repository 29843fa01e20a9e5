"""Settings that everybody may read: without values that look like secrets, and the user's folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LEFT_OUT = "(left out)"
_SECRET = re.compile(r"secret|token|passw|api_?key|private_?key|credential", re.IGNORECASE)


def public(settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns a run's settings, and the keys whose values were left out.

    What was written as `${...}` stays as it is: it says where a secret is, and not what it is. `run.dir` is dropped.
    """
    keys: list[str] = []
    shown: dict[str, Any] = _public(settings, "", keys)
    if isinstance(run := shown.get("run"), dict):
        run.pop("dir", None)
    return shown, keys


def public_value(key: str, value: Any) -> Any:
    """Returns a value of a dotted key, as everybody may read it."""
    if _SECRET.search(key) and value is not None and not isinstance(value, bool) and "${" not in str(value):
        return LEFT_OUT
    return value.replace(str(Path.home()), "~") if isinstance(value, str) else value


def _public(value: Any, key: str, left_out: list[str]) -> Any:
    if isinstance(value, dict):
        return {name: _public(each, f"{key}.{name}" if key else str(name), left_out) for name, each in value.items()}
    if isinstance(value, list):
        return [_public(each, key, left_out) for each in value]
    if key == "run.overrides":  # which are `key=value`
        name, equals, given = str(value).partition("=")
        return f"{name}{equals}{_public(given, name, left_out)}"
    shown = public_value(key, value)
    if shown == LEFT_OUT and key not in left_out:
        left_out.append(key)
    return shown
