"""`outstep convert trainer_config.yaml`: an ML-Agents trainer YAML becomes an experiment of ours.

Every key is converted, or reported with what to do instead. ML-Agents' defaults that are not ours are written out:
a converted run means the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from envs.process.output import keep_output
from envs.spec import UserError
from trainer.config.compose import CONF
from trainer.config.help import about
from trainer.config.interpolations import as_text
from trainer.config.words import in_folder
from trainer.convert import keys
from trainer.convert.behaviors import convert_behaviors
from trainer.convert.keys import KINDS, LOST, Left, mapping, read
from trainer.convert.parameters import convert_parameters
from trainer.data_files import parse_yaml, read_data

_USAGE = "outstep convert trainer_config.yaml [to=experiment/name.yaml]"
_TO = """to=  the file to write, in a folder named experiment; without it experiment/<the YAML's name>.yaml, which
     outstep train +experiment=<the YAML's name> finds from here"""
_UNLIMITED_RESTARTS = 1_000_000
_NO_NAME = r"[^A-Za-z0-9_-]"
"""What the name of an experiment may not hold, for Hydra."""
_VALUE = re.compile(r"[-\d_]*(e-?\d+)?|true|false|null|nan|-?inf", re.IGNORECASE)
"""What Hydra takes for something else than a name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Turns an ML-Agents YAML into an experiment of ours.

    Prints the file written, what has no counterpart, and how to train. `argv` is the command line without the program's
    name. Returns the exit status: 2 for bad input, with one message on stderr and nothing written; else 0.
    """
    keep_output()
    argv = sys.argv[1:] if argv is None else argv
    if shown := about(argv, f"{__doc__}\nusage: {_USAGE}\n\n{_TO}"):
        print(shown)
        return 0
    try:
        source, to = _arguments(argv)
        experiment, left = convert(_load(source), str(source))
        target = _target(source, to)
        _write(experiment, left, target, source)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_report(experiment, left, target))
    return 0


def convert(data: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[Left]]:
    """Converts the ML-Agents trainer configuration `data` to an experiment; returns it, and what has no counterpart.

    Args:
        data: The YAML's contents.
        name: What messages call the YAML.

    Raises:
        UserError: a misspelled key, a value of the wrong kind or out of range, or the format before release 3.
    """
    try:
        _refuse_old_format(data)
        left: list[Left] = []
        file = read(data, "", keys.FILE, left)
        experiment = convert_behaviors(file, left)
        for key, value in _settings(file, left).items():
            experiment[key] = {**experiment[key], **value} if key in experiment else value
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return {key: experiment[key] for key in _ORDER if key in experiment}, left


_ORDER = (
    "defaults",
    "env",
    "algorithm",
    "reward",
    "self_play",
    "behaviors",
    "run",
    "stop",
    "checkpoint",
    "init",
    "seed",
    "device",
)


def _settings(file: Mapping[str, Any], left: list[Left]) -> dict[str, Any]:
    """Converts what the file says about players and the run itself."""
    env = read(file.get("env_settings"), "env_settings", keys.ENV, left)
    seed = env.pop("seed", None)
    if env.get("max_lifetime_restarts") == -1:
        env["max_lifetime_restarts"] = _UNLIMITED_RESTARTS
    settings: dict[str, Any] = {"env": keys.renamed(env, keys.ENV)}
    if "timeout_wait" in env:
        settings["env"]["step_timeout"] = env["timeout_wait"]
    settings["env"].update(read(file.get("engine_settings"), "engine_settings", keys.ENGINE, left))
    if parameters := file.get("environment_parameters"):
        settings["env"]["parameters"] = convert_parameters(parameters, left)
    if seed is not None and seed >= 0:
        settings["seed"] = seed
    elif seed is not None:
        left.append(Left("env_settings.seed", seed, "a run is seeded with 0 here: another seed= for another run"))
    checkpoint = read(file.get("checkpoint_settings"), "checkpoint_settings", keys.CHECKPOINT, left)
    if "run_id" in checkpoint:
        settings["run"] = {"name": checkpoint["run_id"]}
    if "initialize_from" in checkpoint:
        results = mapping(file.get("checkpoint_settings"), "checkpoint_settings").get("results_dir") or "results"
        settings["init"] = f"{results}/{checkpoint['initialize_from']}"
    torch = read(file.get("torch_settings"), "torch_settings", keys.TORCH, left)
    if "device" in torch:
        settings["device"] = _device(torch["device"], left)
    return settings if settings["env"] else {key: value for key, value in settings.items() if key != "env"}


def _device(device: str, left: list[Left]) -> str:
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda"):
        remedy = "not supported: a GPU of CUDA's if there is one, or the CPU"
        left.append(Left("torch_settings.device", device, remedy, LOST))
        return "auto"
    if kind == "cuda" and index not in ("", "0"):
        remedy = f"the first GPU is taken: choose with the environment variable CUDA_VISIBLE_DEVICES={index}"
        left.append(Left("torch_settings.device", device, remedy))
    return kind


def _refuse_old_format(data: Mapping[str, Any]) -> None:
    """Refuses files of before release 3: a behavior's keys lay flat, at first with no `behaviors` around them."""
    groups = data["behaviors"] if isinstance(data.get("behaviors"), Mapping) else data
    old = [name for name in ("parameter_randomization", "curriculum") if name in data]
    old += [str(name) for name, group in groups.items() if isinstance(group, Mapping) and "trainer" in group]
    if old:
        raise UserError(
            f"{old[0]} is written in the format before ML-Agents' release 3: upgrade the file first, with ML-Agents' "
            "`python -m mlagents.trainers.upgrade_config`, so that it holds trainer_type, hyperparameters and so on"
        )


def _arguments(argv: Sequence[str]) -> tuple[Path, str | None]:
    """Returns the file to convert, and what `to=` says."""
    targets = [argument[len("to=") :] for argument in argv if argument.startswith("to=")]
    sources = [argument for argument in argv if not argument.startswith("to=")]
    if len(sources) != 1 or len(targets) > 1 or sources[0].startswith("-"):
        raise UserError(f"expected one YAML file of ML-Agents, not {' '.join(argv) or 'nothing'}: {_USAGE}")
    return Path(sources[0]).expanduser(), targets[0] if targets else None


def _target(source: Path, to: str | None) -> Path:
    """Returns the file to which the experiment goes."""
    target = Path(to or f"experiment/{re.sub(_NO_NAME, '_', source.stem)}.yaml").expanduser()
    named = not re.search(_NO_NAME, target.stem) and not _VALUE.fullmatch(target.stem)
    if not named or target.suffix != ".yaml" or target.parent.name != "experiment":
        raise UserError(
            f"to={target}: experiments are found by name in a folder `experiment`, so give one such as "
            "to=experiment/name.yaml, with a name of letters, digits, - and _, and no number"
        )
    return target


def _load(path: Path) -> dict[str, Any]:
    try:
        data = parse_yaml(read_data(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a YAML file of ML-Agents") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not written in UTF-8: save it so") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, Mapping):
        raise UserError(f"{path} holds no keys, such as behaviors: give a YAML file of ML-Agents")
    return mapping(as_text(data), str(path))  # ML-Agents knows no interpolations


def _write(experiment: Mapping[str, Any], left: Sequence[Left], target: Path, source: Path) -> None:
    if (CONF / "experiment" / target.name).exists():
        raise UserError(f"an experiment {target.stem} is there already: name another, to=experiment/name.yaml")
    head = f"# @package _global_\n# Converted from ML-Agents' {' '.join(source.name.split())}.\n"
    for kind, found in _by_kind(left):
        notes = [f"#   {' '.join(f'{key} = {value}: {remedy}'.split())}\n" for key, value, remedy, _ in found]
        head += "".join([f"# {kind.capitalize()}:\n", *notes])
    body = yaml.dump(dict(experiment), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(head + body)
    except FileExistsError as error:
        raise UserError(f"{target} is there already: remove it, or name another, to=experiment/name.yaml") from error
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}): name another, to=.../experiment/name.yaml"
        ) from error


# Writes lists of plain values on one line, and never as references. Made by call: `yaml` has no types to derive from.
_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
_Dumper.add_representer(
    list,
    lambda dumper, values: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", values, flow_style=not any(isinstance(value, dict) for value in values)
    ),
)


def _by_kind(left: Sequence[Left]) -> list[tuple[str, list[Left]]]:
    found = ((kind, [each for each in left if each.kind == kind]) for kind in KINDS)
    return [(kind, each) for kind, each in found if each]


def _report(experiment: Mapping[str, Any], left: Sequence[Left], target: Path) -> str:
    lines = [f"wrote {target}"]
    for kind, found in _by_kind(left):
        lines += ["", f"{kind}:", *(f"  {key} = {value}\n      {remedy}" for key, value, remedy, _ in found)]
    lines += ["", "whatever a file says, games go on during updates; docs/unity.md has what else is not the same"]
    command = f"outstep train {in_folder(target)}"
    if "executable" not in experiment.get("env", {}):
        lines += ["", "to train with a build, or with the Editor if env.executable is left out:"]
        command += " env.executable=..."
    else:
        lines += ["", "to train:"]
    return "\n".join([*lines, f"  {command}"])


if __name__ == "__main__":
    sys.exit(main())
