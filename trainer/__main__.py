"""`python -m trainer`: composes and checks the configuration, then trains.

Exit statuses: 0 the run ended as planned; 1 an error of ours, with its traceback; 2 bad input, with one message;
130 interrupted (Ctrl+C); 143 terminated (SIGTERM); 129 its terminal closed (SIGHUP). Whatever ends a run, `resume=`
goes on from its last checkpoint.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from envs.spec import UserError
from trainer.checks import check_train
from trainer.compose import run_command, save_config
from trainer.config import TrainConfig
from trainer.occupied import occupied
from trainer.train import train


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit status."""
    return run_command(sys.argv[1:] if argv is None else argv, TrainConfig, "config", check_train, start)


def start(config: TrainConfig) -> int:
    """Trains what is composed and checked, in a new folder or in that of the run that goes on; the exit status."""
    if config.resume is not None:
        folder, resume_from = Path(config.resume), Path(config.resume)
    else:
        config = replace(config, run=replace(config.run, name=_name(config)))
        folder, resume_from = _new_folder(config), None
    with occupied(folder):
        return train(config, folder, resume_from)


def _name(config: TrainConfig) -> str:
    choices = config.run.choices
    return config.run.name or choices.get("experiment") or f"{choices['env']}_{choices['algorithm']}"


def _new_folder(config: TrainConfig) -> Path:
    """Makes the run's folder, with its `config.yaml`; `=` and `:` are kept out of its name, for Hydra and Windows."""
    name = re.sub(r"[^\w.+-]", "-", config.run.name or "")
    folder = Path(config.run.dir or Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        if config.run.dir is None:
            first, count = folder, 1
            while folder.exists():
                count += 1
                folder = first.with_name(f"{first.name}_{count}")
        folder.mkdir(parents=True, exist_ok=config.run.dir is not None)
        save_config(config, folder)
    except OSError as error:
        raise UserError(
            f"the run's folder {folder} cannot be written ({error.strerror}): name another, run.dir="
        ) from error
    return folder


if __name__ == "__main__":
    sys.exit(main())
