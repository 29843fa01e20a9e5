"""`outstep demos`: shows what `.demo` files hold, and converts data sets of Minari to them and back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.process.output import keep_output
from envs.spec import UserError
from envs.unity.demo.reader import Demo, read_demo
from envs.unity.demo.writer import check_target
from trainer.config.errors import misused
from trainer.config.help import version_line
from trainer.demos.load import find_demos
from trainer.demos.minari_data import dataset_name, export_demos, import_dataset

_KEYS = ("from", "to", "env.id", "overwrite")
_CONVERT = (
    "from=minari:<id> to=demos/name.demo, or from=demos/name.demo to=minari:<id> [env.id=CartPole-v1, whose spaces the "
    "data set gets]; overwrite=true replaces a .demo file"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Shows what demonstration files (.demo) hold, and converts Minari's data sets."""
    keep_output()
    parser = argparse.ArgumentParser("outstep demos", description="Shows what demonstrations hold, and converts them.")
    parser.add_argument("--version", action="version", version=version_line())
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="show what .demo files hold", description="Shows what .demo files hold.")
    show.add_argument("file", nargs="+", help="a .demo file, a folder of them, or a pattern")
    show.add_argument("--json", action="store_true", help="print a list of one object for each file")
    about = "Makes a .demo file of a data set of Minari, or a data set of .demo files."
    convert = commands.add_parser("convert", help="convert data sets of Minari, and .demo files", description=about)
    convert.add_argument("word", nargs="+", help=_CONVERT)
    parser.error = show.error = convert.error = misused  # type: ignore[method-assign]
    try:
        args = parser.parse_args(argv)
        if args.command == "show":
            _show(args.file, args.json)
        else:
            print(_shown(_convert(args.word)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _show(given: Sequence[str], as_json: bool) -> None:
    files = [file for each in given for file in find_demos(each, "file")]
    described: list[dict[str, Any]] = []
    for file in files:
        about = describe(file, read_demo(file))
        described.append(about)
        if not as_json:
            print("\n".join(map(_shown, _lines(about))) + ("" if file == files[-1] else "\n"))
    if as_json:
        print(json.dumps(described, indent=2))


def _convert(words: Sequence[str]) -> str:
    """Converts what `key=value` words say; returns the line that tells of it."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _KEYS or not equals or not value:
            raise UserError(f"{word}: give {_CONVERT}")
        given[key] = value
    if not {"from", "to"} <= given.keys():
        raise UserError(f"{'to' if 'from' in given else 'from'} is missing: give {_CONVERT}")
    overwrite = given.get("overwrite", "false")
    if overwrite not in ("true", "false"):
        raise UserError(f"overwrite={overwrite} must be true or false")
    source, target = (dataset_name(given[key], key) for key in ("from", "to"))
    if (source is None) == (target is None):
        raise UserError(f"from={given['from']} to={given['to']}: one of them must be a data set, minari:<id>")
    if source is not None:
        if "env.id" in given:
            raise UserError(f"env.id={given['env.id']}: a data set tells its own spaces; leave it out")
        check_target(to := Path(given["to"]), overwrite == "true")
        done = import_dataset(source, to)
    else:
        done = export_demos(given["from"], str(target), given.get("env.id"))
    line = f"{given['to']}: {done.episodes} episodes, {done.steps} steps"
    clipped = f"; in {done.clipped} the action was outside of its bounds, to which it was brought"
    return line + (clipped if done.clipped else "")


def describe(file: Path, demo: Demo) -> dict[str, Any]:
    """Returns what is in a file, ready for JSON. Figures of episodes are None where there is none."""
    spec, lengths = demo.spec, [len(each.rewards) for each in demo.episodes]
    choices = np.concatenate([np.zeros((0, len(spec.branches)), int), *(each.discrete for each in demo.episodes)])
    actions = np.concatenate([np.zeros((0, spec.continuous_size)), *(each.continuous for each in demo.episodes)])
    whole = sum(each.terminated for each in demo.episodes)
    return {
        "file": str(file),
        "name": demo.name,
        "behavior": demo.behavior,
        "api_version": demo.api_version,
        "observations": [{"name": o.name, "shape": list(o.shape), "dtype": o.dtype} for o in spec.observations],
        "continuous_size": spec.continuous_size,
        "branches": list(spec.branches),
        "masked": spec.masked,
        "episodes": len(demo.episodes),
        "whole": whole,
        "cut_off": len(lengths) - whole,
        "steps": sum(lengths),
        "forbidden_steps": demo.forbidden,
        "reward": _figures([float(each.rewards.sum()) for each in demo.episodes]),
        "length": _figures(lengths),
        # For each discrete branch, how often each choice was taken.
        "choices": [np.bincount(choices[:, i], minlength=size).tolist() for i, size in enumerate(spec.branches)],
        "continuous": [{"mean": float(x.mean()), "std": float(x.std())} for x in actions.T if len(x)],
    }


def _figures(values: Sequence[float]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "min": min(values), "max": max(values)} if values else None


def _lines(about: dict[str, Any]) -> list[str]:
    """For a person to read."""
    kinds = [f"{each['name']} {each['dtype']}{each['shape']}" for each in about["observations"]]
    actions = [f"{about['continuous_size']} continuous"] if about["continuous_size"] else []
    if about["branches"]:
        actions.append(f"discrete branches {about['branches']}{', masked' if about['masked'] else ''}")
    named = {
        "name": about["name"],
        "behavior": f"{about['behavior']} (API version {about['api_version']})",
        "observations": ", ".join(kinds),
        "actions": "; ".join(actions),
        "episodes": f"{about['episodes']}: {about['whole']} whole, {about['cut_off']} cut off",
        "steps": f"{about['steps']}, in {about['forbidden_steps']} the choice is one that the mask forbids",
    }
    for name in ("reward", "length"):
        if about[name]:
            named[name] = "  ".join(f"{key} {value:.4g}" for key, value in about[name].items())
    for i, counts in enumerate(about["choices"]):
        named[f"branch {i}"] = "  ".join(f"{choice}: {count}" for choice, count in enumerate(counts))
    for i, each in enumerate(about["continuous"]):
        named[f"action {i}"] = f"mean {each['mean']:.4g}  deviation {each['std']:.4g}"
    return [about["file"], *(f"  {name:<12}  {text}" for name, text in named.items())]


def _shown(line: str) -> str:
    """`line` with escapes for what is not printable: names in a file are anybody's, and a terminal obeys some."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


if __name__ == "__main__":
    sys.exit(main())
