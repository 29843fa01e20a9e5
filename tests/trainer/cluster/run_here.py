"""Trains as `python -m trainer cluster=ray` does, with relays of this machine: `python -m` with this module."""

from __future__ import annotations

import sys

import trainer.cluster.ingest_process
from tests.trainer.cluster import local
from trainer.__main__ import main

if __name__ == "__main__":
    trainer.cluster.ingest_process.ingest = local.ingest
    sys.exit(main(["cluster=ray", *sys.argv[1:]]))
