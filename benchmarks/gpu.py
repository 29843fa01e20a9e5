"""`python -m benchmarks.gpu`: whether Outstep is right and fast on a GPU, in one command of less than ten minutes.

Parts run one after another, each in a process of its own with a time limit: one that fails, be it by an error of CUDA
that spoils its process, takes nothing from the others. Rows are printed as they come, and at the end what falls short.
Without a GPU it says what it would do and how long that takes. `gpu_parts.py` has the parts.

| part | what it measures |
|---|---|
| `card` | name, memory, driver, versions of torch, CUDA and cuDNN, and whether torch can compute on it |
| `graphs` | updates of SAC and PPO replayed as CUDA graphs against plain calls: same batches, same start |
| `updates` | updates a second, launched one by one and replayed, beside Stable-Baselines3's on the same card |
| `acting` | a pass of a policy on the CPU and on the GPU |
| `memory` | what short runs take of the GPU |
| `snoopy` | the experiment `snoopy_sac` until its goal |
| `pixels` | a game of 84 x 84 x 4 pixels until it is nearly mastered |
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.isolated import FailedError, results
from benchmarks.report import cell, machine, machine_line

PAGE = Path(__file__).parent / "results" / "gpu.md"
SHORT = "short"
"""The key of a row that says what falls short; see `gpu_parts.py`."""


class Part(NamedTuple):
    """Something that is measured."""

    path: str
    """`package.module:function` of what yields its rows."""
    seconds: int
    """It may take."""
    about: str


PARTS = {
    "card": Part("benchmarks.gpu_parts:card", 20, "name the card, and compute something on it"),
    "graphs": Part("benchmarks.gpu_parts:graphs", 70, "compare updates replayed as CUDA graphs with plain ones"),
    "updates": Part("benchmarks.gpu_parts:updates", 160, "count updates a second, beside Stable-Baselines3's"),
    "acting": Part("benchmarks.gpu_parts:acting", 50, "time a policy's passes on the CPU and on the GPU"),
    "memory": Part("benchmarks.gpu_parts:memory", 60, "read what short runs take of its memory"),
    "snoopy": Part("benchmarks.gpu_parts:snoopy", 125, "train `snoopy_sac` until its goal"),
    "pixels": Part("benchmarks.gpu_parts:pixels", 105, "train on a game of 84 x 84 x 4 pixels until its goal"),
}


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and writes; 0, also if something falls short or there is no GPU, and 1 if a part failed."""
    options = _parser().parse_args(argv)
    parts = {name: PARTS[name] for name in options.parts}
    if not torch.cuda.is_available():
        plan = {name: {"about": part.about, "seconds": part.seconds} for name, part in parts.items()}
        print(json.dumps({"gpu": None, "plan": plan}) if options.json else _plan(parts))
        return 0
    result: dict[str, Any] = {"machine": machine(), "parts": {}}
    for name, part in parts.items():
        result["parts"][name] = _measure(name, part, sys.stderr if options.json else sys.stdout)
        if options.out is not None:  # after each part, so that nothing is lost if this process ends early
            options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    result[SHORT] = shortfalls(result)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.write:
        PAGE.write_text(page(result), encoding="utf-8")
    print(json.dumps(result) if options.json else _end(result[SHORT]))
    return int(any(each["failed"] for each in result["parts"].values()))


def page(result: dict[str, Any]) -> str:
    """Returns the results as a page of Markdown."""
    lines = ["# A GPU, measured", "", "`python -m benchmarks.gpu --write`", "", machine_line(result["machine"])]
    for name, measured in result["parts"].items():
        lines += ["", f"## {name}", f"{_sentence(PARTS[name].about) if name in PARTS else name}", ""]
        lines += [markdown(measured["rows"])] if measured["rows"] else []
        lines += ["", f"It failed: {measured['failed']}."] if measured["failed"] else []
    short = shortfalls(result)
    lines += ["", "## What falls short", *(f"- {_sentence(each)}" for each in short or ["nothing"])]
    return "\n".join(lines) + "\n"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns rows as a table of Markdown, without what falls short."""
    header = [key for key in rows[0] if key != SHORT]
    lines = [header, ["---"] * len(header), *([cell(row[key]) for key in header] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shortfalls(result: dict[str, Any]) -> list[str]:
    """Returns in a sentence each what falls short, and which parts failed."""
    found = []
    for name, measured in result["parts"].items():
        found += [row[SHORT] for row in measured["rows"] if row[SHORT]]
        found += [f"{name} failed: {measured['failed']}"] if measured["failed"] else []
    return found


def _measure(name: str, part: Part, out: Any) -> dict[str, Any]:
    """Rows of a part, printed as they come, and in a sentence why it failed, None if it did not."""
    print(f"{name}: {part.about} (at most {part.seconds} s)", file=out, flush=True)
    rows: list[dict[str, Any]] = []
    failed = None
    try:
        for row in results(part.path, part.seconds):
            rows.append(row)
            print("  " + _line(row), file=out, flush=True)
    except FailedError as error:
        failed = str(error)
        print(f"  failed: {failed}", file=out, flush=True)
    return {"rows": rows, "failed": failed}


def _line(row: dict[str, Any]) -> str:
    figures = ", ".join(f"{key} {cell(value)}" for key, value in row.items() if key != SHORT)
    return figures + (f" <- {row[SHORT]}" if row[SHORT] else "")


def _plan(parts: dict[str, Part]) -> str:
    total = sum(part.seconds for part in parts.values())
    lines = ["torch finds no GPU here. With one, this would:"]
    lines += [f"  {name}: {part.about} (at most {part.seconds} s)" for name, part in parts.items()]
    return "\n".join([*lines, f"That takes {total / 60:.1f} minutes at most."])


def _end(short: list[str]) -> str:
    return "\n".join(["What falls short:", *(f"  {each}" for each in short)]) if short else "Nothing falls short."


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Whether all is right and fast on a GPU.")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what is measured (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout; rows go to stderr")
    parser.add_argument("--out", type=Path, help="a file that the JSON object is written to, after each part")
    parser.add_argument("--write", action="store_true", help=f"write the results to {PAGE.parent.name}/{PAGE.name}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
