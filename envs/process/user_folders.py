"""Folders of this user's, outside of any run. All raise OSError if the user has no home folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def settings_folder() -> Path:
    """Returns where our folder for settings is, or would be."""
    return _ours("APPDATA", "~/AppData/Roaming", "~/Library/Application Support", "XDG_CONFIG_HOME", "~/.config")


def cache_folder() -> Path:
    """Returns our folder for what can be made again; only this user may read it. OSError if it cannot be made."""
    folder = _ours("LOCALAPPDATA", "~/AppData/Local", "~/Library/Caches", "XDG_CACHE_HOME", "~/.cache")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _ours(windows_variable: str, windows: str, macos: str, variable: str, otherwise: str) -> Path:
    """Returns our folder in the system's own: variables of Windows and of the XDG specification come first."""
    if sys.platform == "win32":
        place = os.environ.get(windows_variable) or windows
    elif sys.platform == "darwin":
        place = macos
    else:
        place = os.environ.get(variable, "")
        place = place if os.path.isabs(place) else otherwise  # as the specification has it
    place = os.path.expanduser(place)
    if not os.path.isabs(place):
        raise OSError("this user has no home folder")
    return Path(place) / "outstep"
