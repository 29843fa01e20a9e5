"""`python docs/site/settings.py`: writes docs/settings.md from the docstrings of the settings, as `make docs` does."""

from __future__ import annotations

from pathlib import Path

from trainer.config.meanings import Group, Setting, list_settings
from trainer.config.schema import SCHEMAS

PAGE = Path(__file__).parents[1] / "settings.md"
HEAD = """# All settings

Made from the docstrings of the settings by `make docs`: what is wrong here is to be mended there. The command
`outstep train --help` shows the same with the values of a command line, and `outstep train --help KEY` explains
one key. `null` means that nothing is set, and `???` that a value has to be given. Keys of other libraries
(`gamma`, `n_envs`, …) are refused with ours.

```bash
outstep train env.id=CartPole-v1 algorithm=ppo algorithm.learning_rate=1e-3 --cfg job   # what a command line comes to
```

## outstep train
"""


def page() -> str:
    """Returns the whole page."""
    others = dict(SCHEMAS)
    parts = [HEAD, *(_group(group, 3) for group in list_settings(others.pop("train")))]
    for command, schema in others.items():
        (first, *further) = list_settings(schema)
        parts += [_group(first, 2, f"outstep {command}"), *(_group(group, 3) for group in further)]
    return "\n".join(parts)


def _group(group: Group, level: int, name: str = "") -> str:
    rows = ["| key | values | default | |", "|---|---|---|---|", *map(_row, group.settings)]
    title = f"{'#' * level} {name or group.name.replace('<', '&lt;') or 'At the top'}"
    return "\n".join([title, "", group.meaning, "", *(rows if group.settings else ()), ""])


def _row(setting: Setting) -> str:
    values = setting.kind + (f", {setting.allowed}" if setting.allowed else "")
    meaning = setting.meaning + (f" Usual: {setting.usual}." if setting.usual else "")
    cells = [f"`{setting.key}`", values, f"`{setting.default}`", meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
