"""The model card: `README.md` of a folder for a model hub, with what the hub reads of it in front, as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from algorithms.onnx.contract import Exported
from trainer.config.help import version_line
from trainer.config.schema import TrainConfig
from trainer.evaluate.results import Evaluation
from trainer.push.public import public_value
from trainer.report.settings import chosen_settings
from trainer.serve.arrays import cut

CARD = "README.md"
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Published:
    """What is published of a run."""

    name: str
    repo: str | None
    models: Mapping[str, Exported]
    """By the name of the file."""
    samples: Mapping[str, int]
    """By behavior, how many it has learned from."""
    evaluations: Sequence[Evaluation]
    """Of the same checkpoint, the newest first."""
    video: str | None


def model_card(published: Published, config: TrainConfig) -> str:
    """Returns the card."""
    front = yaml.safe_dump(_front(published, config), sort_keys=False, allow_unicode=True)
    algorithm = config.algorithm.name.upper()
    samples = sum(published.samples.values())
    parts = [
        f"---\n{front}---\n",
        f"# {_text(published.name)}\n",
        f"{algorithm} on {_code(_environment(config))}, trained by {version_line()} on {samples:,} samples.\n",
        _replay(published.video),
        "## Scores\n",
        _scores(published),
        "## Use\n",
        *_uses(published),
        "## Settings\n",
        _settings(config),
    ]
    return "\n".join(part for part in parts if part)


def _front(published: Published, config: TrainConfig) -> dict[str, Any]:
    env = _environment(config)
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "outstep", "onnx", config.algorithm.name, env]
    front: dict[str, Any] = {"library_name": "outstep", "pipeline_tag": "reinforcement-learning", "tags": tags}
    results = [
        {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": name, "type": env},
            "metrics": [{"type": "mean_reward", "name": "mean_reward", "value": value, "verified": False}],
        }
        for name, value in _mean_rewards(published, env)
    ]
    if results:
        front["model-index"] = [{"name": published.name, "results": results}]
    return front


def _environment(config: TrainConfig) -> str:
    """Returns what others call the environment: not where it lies on this machine."""
    gym = config.env.gym_env()
    return re.split(r"[/\\]", config.env.label)[-1] if gym is None else gym.behavior


def _mean_rewards(published: Published, env: str) -> Iterator[tuple[str, str]]:
    """Yields mean and deviation of each behavior, by the likeliest actions if these were tried, as hubs write them."""
    if not published.evaluations:
        return
    evaluation = min(published.evaluations, key=lambda each: not each.deterministic)
    behaviors = sorted({each.behavior for each in evaluation.episodes})
    for behavior in behaviors:
        rewards = [each.reward for each in evaluation.episodes if each.behavior == behavior]
        yield behavior if len(behaviors) > 1 else env, f"{np.mean(rewards):.2f} +/- {np.std(rewards):.2f}"


def _scores(published: Published) -> str:
    if not published.evaluations:
        return "It was not evaluated.\n"
    rows = [
        "| behavior | actions | metric | mean ± deviation | lowest | highest | episodes |",
        "|---|---|---|---|---|---|---|",
    ]
    for evaluation in published.evaluations:
        actions = "likeliest" if evaluation.deterministic else "drawn"
        for behavior, figures in evaluation.figures.items():
            for name in figures:
                values = list(_values(evaluation, behavior, name))
                numbers = f"{np.mean(values):.4g} ± {np.std(values):.2g} | {min(values):.4g} | {max(values):.4g}"
                rows.append(f"| {_code(behavior)} | {actions} | {_code(name)} | {numbers} | {len(values)} |")
    return "\n".join([*rows, ""])


def _values(evaluation: Evaluation, behavior: str, name: str) -> Iterator[float]:
    for each in evaluation.episodes:
        own = {**each.metrics, "reward": each.reward, "length": float(each.length)}
        if each.behavior == behavior and name in own:
            yield own[name]


def _replay(video: str | None) -> str:
    if video is None:
        return ""
    if video.endswith(".gif"):
        return f"![An episode]({video})\n"
    return f'<video src="{video}" controls autoplay loop muted></video>\n'


def _uses(published: Published) -> Iterator[str]:
    first = next(iter(published.models))
    if published.repo is not None:
        yield f"```bash\nhf download {published.repo} --local-dir {published.name}\ncd {published.name}\n```\n"
    yield (
        "**Over HTTP**, with [its first page](http://localhost:8080) showing requests to paste:\n\n"
        f"```bash\npip install 'outstep[serve]'\noutstep serve model='{first}'\n```\n"
    )
    for file, exported in published.models.items():
        yield f"**By onnxruntime**, {_code(exported.spec.name)}:\n\n```python\n{_python(file, exported)}```\n"
    yield (
        "**In Unity**, with ML-Agents' package: put the `.onnx` file into the project, and drag it onto *Model* of the "
        "agent's *Behavior Parameters*.\n"
    )


def _python(file: str, exported: Exported) -> str:
    """Returns a program that asks the model for an action."""
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "",
        f"session = onnxruntime.InferenceSession({file!a})",
        "inputs = {",
    ]
    for i, observation in enumerate(exported.spec.observations):
        scaled = "" if observation.dtype == "float32" else f", from {observation.dtype} times {observation.scale:.6g}"
        shape = (1, *exported.shape(observation))
        lines.append(f'    "obs_{i}": np.zeros({shape}, np.float32),  # {cut(observation.name)}{scaled}')
    if exported.spec.branches:
        lines.append(f'    "action_masks": np.ones((1, {sum(exported.spec.branches)}), np.float32),  # 1 = allowed')
    if exported.memory_size:
        lines.append(
            f'    "recurrent_in": np.zeros((1, 1, {exported.memory_size}), np.float32),  # the last recurrent_out'
        )
    names = ["deterministic_continuous_actions"] if exported.spec.continuous_size else []
    names += ["deterministic_discrete_actions"] if exported.spec.branches else []
    names += ["recurrent_out"] if exported.memory_size else []
    return "\n".join([*lines, "}", f"print(session.run({names}, inputs))", ""]).replace("'", '"')


def _settings(config: TrainConfig) -> str:
    """Returns the settings that are not the defaults."""
    rows = ["| setting | value | default |", "|---|---|---|"]
    for key, value, default in chosen_settings(config):
        shown = str(public_value(key, value))
        rows.append(f"| {_code(key)} | {_code(shown[:_LONGEST_VALUE])} | {_code(default[:_LONGEST_VALUE])} |")
    return "\n".join([*rows, "", "All settings: `config.yaml`.", ""])


def _code(text: str) -> str:
    """Returns text as code that is no markup, in a table too."""
    shown = cut(text).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`" if shown else ""


def _text(name: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in cut(name))
