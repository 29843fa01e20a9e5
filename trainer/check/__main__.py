"""`outstep check env=unity env.executable=Builds/Game`: what a game sends, before anything is trained.

Starts one instance, plays it for a while by chance, and prints its behaviors, what is left out of what it sends, and
how long its steps take.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from envs.api import Setup
from envs.spec import UserError
from trainer.check.survey import Survey, describe, play
from trainer.config.command import run_command
from trainer.config.schema import CheckConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Starts a game, and prints what it sends, what of that is left out, and how fast it is."""
    return run_command(argv, CheckConfig, "check", _check, _survey)


def _check(config: CheckConfig) -> None:
    config.env.for_evaluation(1).check()


def _survey(config: CheckConfig) -> int:
    env = config.env.for_evaluation(1)
    print(f"{env.label}: playing by chance for {config.seconds:g} s.", flush=True)
    failure: UserError | None = None
    with TemporaryDirectory(prefix="outstep-check-", ignore_cleanup_errors=True) as folder:
        manager, about = env.make_surveyed(Setup(config.seed, Path(folder)))
        survey = Survey()
        with manager:
            manager.start()
            try:
                # Players have so long to start.
                patience = time.monotonic() + getattr(env, "connect_timeout", env.step_timeout)
                play(manager, survey, config.seed, config.seconds, patience)
            except UserError as error:
                failure = error
    print("\n".join(describe(survey, about)))
    if failure is not None:
        raise failure
    if not survey.specs:
        raise UserError(f"{env.label} has shown no agent: is there one that asks for decisions?")
    return 0


if __name__ == "__main__":
    sys.exit(main())
