"""What to do with a run that has ended, as commands that can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.export.model_file import model_file


def next_steps(folder: Path, behaviors: Sequence[str]) -> list[str]:
    """Returns lines that say how to watch, draw, and go on with the run in `folder`, and where its models lie."""
    run = shlex.quote(str(folder))
    models = [folder / "models" / model_file(name) for name in behaviors]
    there = [str(model) for model in models if model.exists()]
    steps = [
        ("see how well it plays", f"outstep evaluate run={run}"),
        ("draw its curves", f"outstep report run={run}"),
        ("train longer", f"outstep train resume={run} stop.samples=…"),
    ]
    if there:
        steps.append(("model for Unity", ", ".join(there)))
    width = max(len(what) for what, _ in steps)
    return [f"{'Next:' if place == 0 else '':<6}{what:<{width}}  {how}" for place, (what, how) in enumerate(steps)]
