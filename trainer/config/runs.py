"""Where runs lie: the names of their folders, and the one that was used last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from envs.spec import UserError
from trainer.config.schema import TrainConfig

RUNS = Path("runs")
"""Where runs lie whose folder was not named, seen from the current folder."""
LATEST = "latest"
"""What stands for the run that was begun or gone on with last."""

_SHOWN = ("algorithm.", "reward.", "behaviors.", "env.", "seed")
"""Beginnings of the settings that tell runs apart; others change where and how long they run."""
_LONGEST = 80
"""Characters of a folder's name that say what was overridden."""


def overridden_name(config: TrainConfig) -> str:
    """Returns what was overridden in a run, for the name of its folder: `clip-0.1_seed-3`; empty if nothing was.

    `=` and `:` are kept out of it, for Hydra and Windows.
    """
    parts = []
    for override in config.run.overrides:
        key, _, value = override.partition("=")
        if key.startswith(_SHOWN):
            parts.append(re.sub(r"[^\w.+-]+", "-", f"{key.rpartition('.')[2]}-{value.strip('[]{}')}"))
    return "_".join(parts)[:_LONGEST].rstrip(".-_")


def found_run(folder: str) -> str:
    """Returns the folder that `latest` stands for; any other as it is. UserError if there is no run."""
    if folder != LATEST or Path(folder).exists():
        return folder
    configs = [*RUNS.glob("*/config.yaml"), *RUNS.glob("*/*/config.yaml")]
    if not configs:
        raise UserError(f"{LATEST}: there is no run in {RUNS.absolute()}: name its folder")
    return str(max((each.parent for each in configs), key=_used))


def named_folders(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns those words of a command line that are folders, as they bear no key, and the others.

    Behind `--help` a word without a key is the key that is asked for.
    """
    if "--help" in words or "-h" in words:
        return [], list(words)
    folders = [word for word in words if "=" not in word and not word.startswith("-")]
    return folders, [word for word in words if word not in folders]


def _used(folder: Path) -> float:
    """Returns when a run was last written to."""
    files = (folder / "config.yaml", folder / "train.log")
    return max(file.stat().st_mtime for file in files if file.exists())
