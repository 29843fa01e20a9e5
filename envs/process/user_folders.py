"""Folders of this user's, outside of any run."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Returns our folder for what can be made again; only this user may read it. OSError if it cannot be made."""
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME", "")
        place = place if os.path.isabs(place) else "~/.cache"  # as the specification has it
    place = os.path.expanduser(place)
    if not os.path.isabs(place):
        raise OSError("this user has no home folder")
    folder = Path(place) / "outstep"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
