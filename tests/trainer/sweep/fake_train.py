"""Stands in for `outstep train` in tests of sweeps: a run that takes no time and scores what its learning rate says.

It writes what a run leaves in its folder, a checkpoint at half of its way, and a line for each time it was started.
`FAKE` in the environment, JSON, may hold: `seconds` of the whole run; `fails`, a learning rate from which on it fails;
`dies`, how often it is killed on its first way.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

LINES = 50


def main() -> int:
    words = dict(word.lstrip("+").split("=", 1) for word in sys.argv[1:])
    fake = json.loads(os.environ.get("FAKE", "{}"))
    folder = Path(words.get("resume") or words["run.dir"].strip("'"))
    config, metrics = folder / "config.yaml", folder / "metrics.jsonl"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    given = {**json.loads(config.read_text()), **words} if "resume" in words else words
    config.write_text(json.dumps(given))
    with (folder / "starts").open("a") as file:
        file.write(("resumed" if "resume" in words else "begun") + "\n")
    rate, stop = float(given["algorithm.learning_rate"]), int(given["stop.samples"])
    if rate >= fake.get("fails", 10):
        print("error: the game is broken")
        return 2
    begun = max((int(each.name.split("-")[1]) for each in (folder / "checkpoints").iterdir()), default=0)
    kept = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    metrics.write_text("".join(f"{json.dumps(line)}\n" for line in kept if line["samples"] <= begun))
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    step = max(1, stop // LINES)
    for samples in sorted({*range(begun + step, stop, step), stop} - {begun}):
        time.sleep(fake.get("seconds", 0.0) / LINES)
        score = rate * samples / stop + int(given.get("seed", 0))
        with metrics.open("a") as file:
            line = {
                "samples": samples,
                "seconds": samples / 100,
                "time": 0.0,
                "episode/reward": score,
                "loss/policy": 1.0,
            }
            file.write(f"{json.dumps(line)}\n")
        if ended or samples == stop // 2 or samples > stop - step:
            (folder / "checkpoints" / f"{samples:06d}-{samples}").mkdir(exist_ok=True)
        if ended:
            return 143
        if samples >= stop // 2 and len((folder / "starts").read_text().split()) <= fake.get("dies", 0):
            os.kill(os.getpid(), signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
