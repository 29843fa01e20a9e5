"""`outstep train`: composes and checks the configuration, then trains.

Exit statuses: 0 the run ended as planned; 1 an error of ours, with its traceback; 2 bad input, with one message;
130 interrupted (Ctrl+C); 143 terminated (SIGTERM); 129 its terminal closed (SIGHUP). Whatever ends a run, `resume=`
goes on from its last checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.config.command import run_command
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train
from trainer.sweep.grid import Grid
from trainer.telemetry.console import announced


def main(argv: Sequence[str] | None = None) -> int:
    """Trains agents, or goes on with a run (resume=).

    Runs the command line `argv` (without the program's name) and returns the exit status.
    """
    grid = Grid()
    status = run_command(sys.argv[1:] if argv is None else argv, TrainConfig, "config", _check, grid.start)
    grid.report()
    return status


def _check(config: TrainConfig) -> None:
    with announced("Checking the settings and the environment …"):
        check_train(config)


if __name__ == "__main__":
    sys.exit(main())
