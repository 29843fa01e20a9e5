"""Trains as `python -m trainer cluster=ray` does, with relays of this machine: `python -m` with this module."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import trainer.cluster.ingest_process
from tests.trainer.cluster import local
from trainer.__main__ import main


def without_ray() -> None:
    """Lets relays of this machine stand in for Ray's."""
    nothing = ModuleType("ray")  # they need none of it
    nothing.__spec__ = ModuleSpec("ray", None)
    sys.modules["ray"] = nothing
    trainer.cluster.ingest_process.ingest = local.ingest


if __name__ == "__main__":
    without_ray()
    sys.exit(main(["cluster=ray", *sys.argv[1:]]))
