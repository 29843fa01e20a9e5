"""`outstep sweep best`: an experiment with the settings of a study's best trial."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from envs.process.whole_files import write_whole
from envs.spec import UserError
from trainer.config.command import parse_overrides
from trainer.config.compose import readable
from trainer.config.schema import TrainConfig
from trainer.config.words import in_folder
from trainer.sweep.settings import SweepBestConfig

_GROUPS = ("env", "algorithm", "reward")


def check_best(config: SweepBestConfig) -> None:
    """Refuses a folder without a study, or one in which no trial has ended yet."""
    if find_spec("optuna") is None:
        raise UserError("optuna is missing: pip install 'outstep[sweep]'")
    from trainer.sweep.study import JOURNAL

    if not (Path(config.study) / JOURNAL).is_file():
        raise UserError(f"{config.study} holds no study: give the folder of a sweep, such as sweeps/a")
    if config.to is not None and Path(config.to).suffix not in (".yaml", ".yml"):
        raise UserError(f"to={config.to}: name a file that ends in .yaml")
    _best(config)


def write_best(config: SweepBestConfig) -> int:
    """Writes the experiment, prints how to train with it, and returns 0."""
    words, about = _best(config)
    name = re.sub(r"[^\w.+-]", "-", f"{Path(config.study).resolve().name}_best")
    file = Path(config.to) if config.to is not None else Path("experiment") / f"{name}.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, experiment(words, f"The best of a sweep, {about}.").encode())
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}): name another file, to=") from error
    print(f"{file}: {about}")
    print(f"Next: outstep train {in_folder(file)}")
    return 0


def experiment(words: list[str], comment: str) -> str:
    """Returns the YAML of an experiment that comes to the same as these overrides.

    Raises:
        UserError: an override is none that YAML can say.
    """
    chosen: dict[str, str] = {}
    base: list[str] = []
    settings: dict[str, Any] = {}
    for override, _ in parse_overrides([readable(word, TrainConfig) for word in words], TrainConfig):
        key, value = override.get_key_element().lstrip("+"), override.value()
        if key == "experiment":
            base.append(str(value))
        elif key in _GROUPS:
            chosen[key] = str(value)
        elif key.startswith("~"):
            raise UserError(f"{override.input_line} cannot be said in an experiment: write it beside +experiment=")
        elif key != "hydra.searchpath":
            *above, last = key.split(".")
            node = settings
            for name in above:
                node = node.setdefault(name, {})
            node[last] = value
    defaults = [*base, *({f"override /{group}": choice} for group, choice in chosen.items())]
    written = {**({"defaults": [*defaults, "_self_"]} if defaults else {}), **settings}
    lines = "\n".join(f"# {line}" for line in comment.splitlines())
    return f"# @package _global_\n{lines}\n{yaml.safe_dump(written, sort_keys=False, default_flow_style=False)}"


def _best(config: SweepBestConfig) -> tuple[list[str], str]:
    """Returns the overrides of the best trial, and what it is."""
    from optuna.study import StudyDirection

    from trainer.sweep.study import best_of, identity_of, load, words_of

    study = load(Path(config.study))
    identity = identity_of(study)
    maximize = study.direction is StudyDirection.MAXIMIZE
    trial = best_of(study.get_trials(deepcopy=False), maximize)
    if trial is None:
        raise UserError(f"in {config.study} no trial has ended yet that was not ended early: wait for one")
    about = f"trial {trial.number} of {config.study}: {identity['metric']} {trial.value:.4g}"
    return [*identity["settings"], *words_of(trial)], about
