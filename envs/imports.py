"""Import paths: how a configuration names a user's own classes and functions."""

from __future__ import annotations

import importlib
from typing import Any

from envs.spec import UserError


def imported(path: str, key: str) -> Any:
    """What `package.module:Name` names; `key` says where the configuration has it.

    Raises:
        UserError: it is no such path, its module cannot be imported, or has nothing of that name.
    """
    module, colon, name = str(path).partition(":")
    if not (colon and module and name):
        raise UserError(f"{key}: {path!r} is no import path: write package.module:Class")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # the user's code
        raise UserError(f"{key}: {path} cannot be imported ({type(error).__name__}: {error})") from error
    if found is None:
        raise UserError(f"{key}: {path}: module {module} has no {name}")
    return found
