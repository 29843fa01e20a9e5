"""`outstep completion bash|zsh|fish`: prints a script that lets this shell complete commands and settings with TAB.

    bash:  eval "$(outstep completion bash)"              in ~/.bashrc
    zsh:   eval "$(outstep completion zsh)"               in ~/.zshrc, behind compinit
    fish:  outstep completion fish > ~/.config/fish/completions/outstep.fish

At each TAB the script asks `outstep completion words SHELL LINE`. Only the standard library is imported for that: what
there is to complete is kept in a file in the user's cache folder, which is made again when its sources have changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from envs.process.user_folders import cache_folder
from envs.process.whole_files import write_whole

if TYPE_CHECKING:
    from trainer.config.meanings import Setting

SCRIPTS = {
    "bash": r"""_outstep() {
    local IFS=$'\n'
    COMPREPLY=($("$1" completion words bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o nospace -F _outstep outstep""",
    "zsh": r"""#compdef outstep
_outstep() {
    local -a found open closed
    found=("${(@f)$("${words[1]}" completion words zsh "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=("${(@)${(@M)found:#+*}#?}") closed=("${(@)${(@M)found:# *}#?}")
    _describe -t open settings open -S ''
    _describe -t closed settings closed
}
compdef _outstep outstep""",
    "fish": r"""complete -c outstep -f -a '(outstep completion words fish (commandline -cp))'""",
}
"""What is printed for each shell."""


class Word(NamedTuple):
    """What may stand at the cursor, and a few words about it."""

    text: str
    """Ends in `=`, `.` or `/` if it goes on."""
    about: str = ""


def main(argv: Sequence[str]) -> int:
    """Prints a script for bash, zsh or fish, which completes commands and settings."""
    words = list(argv)
    if words[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if words[:1] == ["words"] and len(words) == 3:
        print("\n".join(_written(words[1], completions(words[2], _table()), words[2])))
        return 0
    if len(words) != 1 or words[0] not in SCRIPTS:
        seen = f"not {' '.join(words)}; " if words else ""
        print(f"error: completion: give bash, zsh or fish, {seen}see outstep completion --help", file=sys.stderr)
        return 2
    _table()  # so that the first TAB is quick as well
    print(SCRIPTS[words[0]])
    return 0


def completions(line: str, table: dict[str, Any]) -> list[Word]:
    """Returns what may stand at the end of a command line, whose first word is the program, of what `table` has."""
    *before, current = _split(line)
    words = before[1:]
    return [word for word in _choices(words, current, table) if word.text.startswith(current)]


def _split(line: str) -> list[str]:
    """Returns the words of a line; the last is the one at its end, empty behind a space."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is open
        words = line.split()
    return [*words, ""] if not line or line[-1].isspace() else words


def _choices(words: Sequence[str], current: str, table: dict[str, Any]) -> Iterator[Word]:
    """Yields what may follow `words`, the command and more; of that, what begins as `current` is wanted."""
    if not words or list(words) in (["help"], ["--help"]):
        yield from (Word(name, about) for name, about in table["commands"].items())
        yield from (Word("--help"), Word("--version"))
        return
    command, *given = words
    if command in _BELOW and not given:
        yield from map(Word, _BELOW[command])
        return
    if command == "sagemaker":
        command, given = f"{command} {given[0]}", given[1:]
    found = table["settings"].get(command, ())
    if command == "sweep":
        best = given[:1] == ["best"]
        found = table["settings"]["sweep best"] if best else [*found, *table["settings"]["train"]]
        command = "compare" if best else "train"  # folders without a key, or what a run takes
    settings = _fitting(found, given)
    if not settings:
        yield from _files(current)
    elif "=" in current:
        yield from _values(current, settings, given, table["choices"])
    elif current.startswith("-"):
        yield from map(Word, _FLAGS)
    else:
        yield from _keys(current, settings, "" if "--help" in given else "=")
        if command == "train":
            yield Word("+experiment=", "Settings from a YAML file")
            if words == ["sweep"]:
                yield Word("best", "Writes an experiment of a study's best trial")
        elif command == "compare":
            yield from _files(current)


def _fitting(settings: Sequence[dict[str, Any]], given: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the settings that go with the choices among the words `given`: with `algorithm=sac` none of PPO's own."""
    chosen = dict(word.split("=", 1) for word in given if "=" in word)
    fitting = []
    known = {choice for each in settings for choice in each["group"].partition("=")[2].split(" or ")}
    for each in settings:
        key, _, choices = each["group"].partition("=")
        if not choices or chosen.get(key) not in known or chosen[key] in choices.split(" or "):
            fitting.append(each)
    return fitting


def _keys(current: str, settings: Iterable[dict[str, Any]], end: str) -> Iterator[Word]:
    """Yields keys up to their next dot, as a shell yields folders; those that are whole end with `end`."""
    above = current.rpartition(".")[0]
    start = len(above) + 1 if above else 0
    found: dict[str, str] = {}
    for each in settings:
        key: str = each["key"]
        if key.startswith(current) and "<" not in key:
            name, dot, _ = key[start:].partition(".")
            found.setdefault(f"{key[:start]}{name}{dot or end}", "" if dot else each["about"])
    yield from (Word(text, about) for text, about in found.items())


def _values(
    current: str, settings: Sequence[dict[str, Any]], given: Sequence[str], choices: dict[str, list[str]]
) -> Iterator[Word]:
    """Yields `key=value` for the values that a key may have; its default stands for those that cannot be listed."""
    key, _, begun = current.partition("=")
    name = key.lstrip("+")
    none: dict[str, Any] = {"values": [], "path": False}
    setting = next((each for each in settings if each["key"] == name), none)
    if name == "experiment":
        values: Iterable[str] = dict.fromkeys([*choices[name], *_own_experiments(given)])
    elif setting["path"]:
        paths = [*(_files("runs/") if name in _RUNS and not begun else ()), *_files(begun)]
        values = [*(["latest"] if name in _RUNS else []), *(each.text for each in paths)]
    else:
        values = choices.get(name, setting["values"])
    yield from (Word(f"{key}={value}") for value in values)


def _own_experiments(given: Sequence[str]) -> list[str]:
    folders = ["."]
    for flag, following in zip(given, [*given[1:], ""]):
        if flag.startswith(("--config-dir", "-cd")):
            folders.append(flag.partition("=")[2] or following)
    return sorted(file.stem for folder in folders for file in Path(folder, "experiment").glob("*.yaml"))


def _files(begun: str) -> Iterator[Word]:
    """Yields the files and folders whose paths begin so, as they were begun."""
    folder, _, name = begun.rpartition("/")
    place = os.path.expanduser(f"{folder}/" if "/" in begun else ".")
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(place), key=lambda each: each.name):
            if entry.name.startswith(name) and not (entry.name.startswith(".") and not name):
                yield Word(f"{begun[: len(begun) - len(name)]}{entry.name}{'/' if entry.is_dir() else ''}")


def _written(shell: str, words: Sequence[Word], line: str) -> Iterator[str]:
    """Yields the lines that a shell's script takes, one a word."""
    current = _split(line)[-1]
    for text, about in words:
        goes_on = text.endswith(("=", ".", "/"))
        if shell == "bash":  # it replaces only what is behind the last = or :, and quotes nothing
            behind = text[max(current.rfind("="), current.rfind(":")) + 1 :]
            yield re.sub(r"([^\w./=+:,~-])", r"\\\1", behind) + ("" if goes_on else " ")
        elif shell == "zsh":
            escaped = text.replace(":", r"\:")
            yield ("+" if goes_on else " ") + escaped + (f":{about}" if about else "")
        else:
            yield f"{text}\t{about}" if about else text


def _table() -> dict[str, Any]:
    """Returns all there is to complete: `commands` with their lines, `settings` by command, and `choices` by group.

    It is kept in a file, with the times at which what it was made of was changed.
    """
    file = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        file = cache_folder() / "completion.json"
        kept = json.loads(file.read_bytes())
        if kept["made_of"] == _stamps(kept["made_of"]):
            table: dict[str, Any] = kept["table"]
            return table
    table = _made()
    sources = [str(module.__file__) for name, module in list(sys.modules.items()) if _is_ours(name, module)]
    installed = [each for each in sys.path if each.endswith("-packages")]
    with contextlib.suppress(OSError):
        if file is not None:
            write_whole(file, json.dumps({"made_of": _stamps([*sources, *installed]), "table": table}).encode())
    return table


def _is_ours(name: str, module: Any) -> bool:
    ours = name.partition(".")[0] in ("outstep", "trainer", "algorithms", "envs")
    return ours and getattr(module, "__file__", None) is not None


def _stamps(places: Iterable[str]) -> dict[str, int]:
    """Returns when files and folders were changed; that of packages is when one is installed."""
    return {each: os.stat(each).st_mtime_ns for each in places if os.path.exists(each)}


def _made() -> dict[str, Any]:
    # These take a second.
    from outstep.commands import COMMANDS
    from trainer.config.compose import CONF
    from trainer.config.help import choices
    from trainer.config.meanings import list_settings
    from trainer.config.schema import SCHEMAS

    return {
        "commands": {name: COMMANDS.summary(name) for name in COMMANDS.names()},
        "settings": {
            command: [
                {
                    "group": group.name,
                    "key": each.key,
                    "about": re.split("[.;] ", each.meaning)[0].rstrip("."),
                    "values": _listed(each),
                    "path": each.is_path,
                }
                for group in list_settings(schema)
                for each in group.settings
            ]
            for command, schema in SCHEMAS.items()
        },
        "choices": choices([CONF]),
    }


def _listed(setting: Setting) -> list[str]:
    """Returns the values of a setting that can be listed: the default at least."""
    kind = setting.kind.removesuffix(" or null")
    values = kind.split(", ") if ", " in kind else kind.split(" or ") if kind == "true or false" else []
    values += [setting.default] if setting.default not in (*values, "???", "null") else []
    return [*values, "null"] if kind != setting.kind else values


_FLAGS = ("--help", "--version", "--multirun", "--cfg", "--config-dir", "--hydra-help")
_BELOW = {
    "sagemaker": ("train", "deploy"),
    "container": ("train", "serve"),
    "demos": ("show",),
    "completion": tuple(SCRIPTS),
}
"""What follows commands that have commands of their own."""
_RUNS = ("run", "resume", "init")
"""The keys that take the folder of a run, or `latest`."""
