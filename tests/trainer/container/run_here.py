"""Runs `outstep container` with stand-ins for Ray's command and for its actors: `python -m` with this module."""

from __future__ import annotations

import sys
from pathlib import Path

import trainer.container.machines
from tests.trainer.cluster.run_here import without_ray
from trainer.container.__main__ import main

if __name__ == "__main__":
    without_ray()
    trainer.container.machines.RAY = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
    sys.exit(main())
