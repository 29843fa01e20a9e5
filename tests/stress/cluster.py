"""`python -m tests.stress.cluster --kills 60 --json`: what is lost when parts of a cluster die.

Hosts are relays in processes of this machine, without Ray. Three runs train on the game that keeps a record of its own
(`witness.py`):

1. Games, collectors, relays, whole hosts and the ingest are killed, and connections are cut or fall silent. Then the
   run is ended by SIGTERM, and `audit.py` compares the records with the buffer of its last checkpoint. Of a host that
   is lost, the steps may be missing that waited there or were on their way: no more than its window and the replies in
   flight hold, and none that is older than what was delivered.
2. The learner is killed: after 10 s none of its processes may be left.
3. A host falls silent: after 35 s at most that is reported, and the games of the other host have played on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, machine_line
from buffers.fragments import WINDOW
from envs.spec import UserError
from tests.stress.audit import audit, load_rows
from tests.stress.chaos import LEARNERS, RUNS, _fraction
from tests.stress.farm import KINDS, Farm, Wreck
from tests.stress.trial import send
from trainer.cluster.checks import fragment_size
from trainer.cluster.ingest import IN_FLIGHT
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig

HOSTS, INSTANCES = 4, 2
ORPHAN_SECONDS = 10.0
REPORT_SECONDS = 35.0
"""A host that is silent has to be reported within so long."""
_SILENT_SECONDS = 6.0
"""`cluster.silent_seconds` where hosts fall silent again and again."""
_LIMIT_SECONDS = 90.0
"""No fault takes so long to be mended."""
_NOTE_SECONDS = 1.0
_SPAN_SECONDS = 30.0
"""Over which a host's utilization is compared."""
_LEAST_SHARE = 0.9
"""Of the utilization before, while another host is silent; it varies by itself."""


def main(argv: list[str] | None = None) -> int:
    """Runs and prints one JSON object, or lines; 0, 1 if a claim failed, 2 for bad input."""
    options = _parser().parse_args(argv)
    if options.kills < 1:
        print(f"cluster: --kills {options.kills} must be at least 1", file=sys.stderr)
        return 2
    kinds = RUNS if options.kind == "both" else (options.kind,)
    result: dict[str, Any] = {"hosts": HOSTS, "instances": INSTANCES, "seed": options.seed, "machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if options.keep is None else Path(options.keep)
        for kind in kinds:
            result[kind] = killed(kind, folder / kind, options.kills, options.seed)
        result["learner_killed"] = learner_killed(kinds[0], folder / "learner")
        result["silence"] = silence(kinds[0], folder / "silence")
    print(json.dumps(result) if options.json else _text(result))
    return int(
        not all(each["as_claimed"] for each in result.values() if isinstance(each, dict) and "as_claimed" in each)
    )


def killed(kind: str, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """A run in which all kinds of processes fail, from its start to the audit of its last checkpoint."""
    words = [*_overrides(kind, _LIMIT_SECONDS * kills, HOSTS), f"cluster.silent_seconds={_SILENT_SECONDS}"]
    with Farm(kind, folder, [*words, f"seed={seed}"], HOSTS, INSTANCES) as farm:
        wreck, rng = Wreck(farm, kills, seed), np.random.default_rng(seed)
        began = struck = time.monotonic()
        pause = noted = 0.0
        while farm.running and not (wreck.over and len(farm.delivering()) == HOSTS):
            farm.look()
            now = time.monotonic()
            if now > noted + _NOTE_SECONDS:
                farm.note()
                noted = now
            if now > struck + _LIMIT_SECONDS:
                farm.process.kill()
            elif not wreck.over and now > struck + pause and wreck.strike():
                struck, pause = now, rng.uniform(0.5, 3.0)
            time.sleep(0.1)
        farm.look()
        at_end = {life.number for life in farm.playing()}
        seconds = time.monotonic() - began
        farm.process.send_signal(signal.SIGTERM)
        status = farm.process.wait(_LIMIT_SECONDS)
        left = farm.left(time.monotonic())
        found = {"kills": dict(wreck.done), "seconds": seconds, "status": status}
        found |= _compared(farm, farm.of_processes(wreck.pids), at_end, _window(farm, words))
    found |= {"processes_left": left.processes, "left": left.words}
    right = wreck.over and status == 128 + signal.SIGTERM and not left.words
    return found | {"as_claimed": right and found["clean"] and not found["failed_unasked"]}


def _compared(farm: Farm, failed: set[int], at_end: set[int], window: int) -> dict[str, Any]:
    records = {number: life.records() for number, life in farm.lives().items()}
    try:
        rows = load_rows(farm.folder)
    except UserError as error:
        return {"clean": False, "failed_unasked": 0, "audit": str(error)}
    found = audit(rows, records, failed, at_end, farm.audited_hosts(window))
    return {"clean": found.clean, "window": window, **asdict(found)}


def _window(farm: Farm, words: list[str]) -> int:
    """How many steps of a host may be behind: its window, the replies in flight, and what passed the limiter at once.

    That is the last row of each game, which waits for the next one, and the steps under way when games are held.
    """
    config = compose(["env=basic", "cluster=ray", f"cluster.collectors={farm.hosts}", *words], TrainConfig, "config")
    return (WINDOW + IN_FLIGHT) * fragment_size(config) + 2 * farm.instances


def learner_killed(kind: str, folder: Path) -> dict[str, Any]:
    """A run whose learner is killed once all hosts deliver."""
    with Farm(kind, folder, _overrides(kind, _LIMIT_SECONDS, 2), 2, INSTANCES) as farm:
        _until_all_deliver(farm)
        farm.note()
        processes = len(farm.processes())
        farm.process.kill()
        farm.process.wait()
        left = farm.left(time.monotonic(), ORPHAN_SECONDS)
    found = {"processes": processes, "orphans": left.processes, "seconds": left.seconds, "left": left.words}
    return found | {"as_claimed": not left.words}


def silence(kind: str, folder: Path) -> dict[str, Any]:
    """A run of two hosts, of which one is stopped; what is reported of that, and how the other one fares meanwhile."""
    with Farm(kind, folder, _overrides(kind, 4 * _SPAN_SECONDS, 2), 2, INSTANCES) as farm:
        _until_all_deliver(farm)
        time.sleep(_SPAN_SECONDS)
        farm.look()
        other, stopped = farm.delivering()
        games = farm.delivering()[other]
        began = time.monotonic()
        send(stopped.relay, signal.SIGSTOP)
        log = farm.folder / "train.log"
        while farm.running and "nothing was heard of it" not in log.read_text(encoding="utf-8"):
            if time.monotonic() > began + 2 * REPORT_SECONDS:
                break
            time.sleep(0.1)
        ended = time.monotonic()
        steps = np.concatenate([game.records() for game in games])
        before, meanwhile = (
            _fraction(steps, farm.instances, [span]) for span in ((began - _SPAN_SECONDS, began), (began, ended))
        )
    found = {"reported_after": ended - began, "utilization_before": before, "utilization_meanwhile": meanwhile}
    return found | {"as_claimed": ended - began <= REPORT_SECONDS and meanwhile >= _LEAST_SHARE * before}


def _until_all_deliver(farm: Farm) -> None:
    until = time.monotonic() + _LIMIT_SECONDS
    while len(farm.delivering()) < farm.hosts:
        if not farm.running or time.monotonic() > until:
            raise UserError(f"not all hosts have begun: {(farm.folder.parent / 'output.txt').read_text()}")
        farm.look()
        time.sleep(0.1)


def _overrides(kind: str, seconds: float, hosts: int) -> list[str]:
    rows = int(20 * seconds * hosts * INSTANCES)  # what games can deliver: 20 steps a second each
    return [
        *LEARNERS[kind],
        "algorithm.network.hidden=[64,64]",
        f"algorithm.buffer_memory_mib={16 + rows * 200 // 2**20}",
        "checkpoint.every_seconds=5",
        "checkpoint.keep=2",
        "run.picture_minutes=0",
    ]


def _text(result: dict[str, Any]) -> str:
    lines = [f"{result['hosts']} hosts of {result['instances']} games, seed {result['seed']}", machine_line(), ""]
    for name, found in result.items():
        if isinstance(found, dict) and "as_claimed" in found:
            lines += [f"{name.replace('_', ' ')}: {'as claimed' if found['as_claimed'] else 'NOT AS CLAIMED'}"]
            lines += [f"  {figure.replace('_', ' ')}: {value}" for figure, value in found.items() if value != []]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    parser = argparse.ArgumentParser("python -m tests.stress.cluster", description=f"Faults of a cluster. {kinds}.")
    parser.add_argument("--kills", type=int, default=60, help="faults of each run, equally many of each kind (60)")
    parser.add_argument("--kind", choices=(*RUNS, "both"), default="both", help="what is played (both)")
    parser.add_argument("--seed", type=int, default=0, help="seed of faults and runs (0)")
    parser.add_argument("--keep", help="folder to be made, in which the runs stay")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
