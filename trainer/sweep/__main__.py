"""`outstep sweep …`: a run for each combination of values, or a search of the best settings in ranges."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envs.spec import UserError
from trainer import __main__ as training
from trainer.config.command import run_command
from trainer.sweep.plan import Plan, is_plain_grid, make_plan
from trainer.sweep.settings import SweepBestConfig, SweepConfig
from trainer.telemetry.console import make_console
from trainer.telemetry.tables import print_table

if TYPE_CHECKING:
    from trainer.sweep.study import Study

BEST = "best"
"""The word behind `sweep` that writes an experiment."""
_PLAIN_WIDTH = 160
"""Columns of the table where it does not go to a terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains a run for each combination of values, such as seed=1,2,3, or searches the best settings in ranges."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [BEST]:
        from trainer.sweep.best import check_best, write_best

        rest = words[1:]
        folders = [word for word in rest if "=" not in word and not word.startswith("-")]
        if {"-h", "--help"} & set(rest):
            folders = []
        rest = [*(word for word in rest if word not in folders), *(f"study={folder}" for folder in folders)]
        return run_command(rest, SweepBestConfig, "sweep_best", check_best, write_best)
    if {"-h", "--help"} & set(words):
        return run_command(words, SweepConfig, "sweep", lambda _: None, lambda _: 0)
    if is_plain_grid(words):
        return training.main(["--multirun", *words])
    try:
        return _sweep(make_plan(words))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the sweep answers signals itself
        return 130


def _sweep(plan: Plan) -> int:
    from trainer.sweep.runner import Runner
    from trainer.sweep.study import Study
    from trainer.sweep.view import View

    study = Study(plan)
    try:
        with View(plan, make_console()) as view:
            return Runner(plan, study, view).run()
    finally:
        _conclude(plan, study)


def _conclude(plan: Plan, study: Study) -> None:
    """Prints the table of trials, and writes the page where its libraries are there."""
    from trainer.sweep.page import write_sweep_page
    from trainer.sweep.view import heading, table

    trials = study.trials()
    if not trials:
        return
    headings, rows = table(trials, plan)
    print_table(headings, rows, ("trial", "state", "settings"), _PLAIN_WIDTH)
    print(heading(trials, plan))
    write_sweep_page(plan, study)
    if study.best() is not None:
        print(f"Next: an experiment of the best  outstep sweep best {plan.folder}")


if __name__ == "__main__":
    sys.exit(main())
