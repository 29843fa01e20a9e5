"""What seems to be meant by words of a command line that are neither `key=value` nor one of its flags."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from algorithms.registry import ALGORITHMS
from trainer.config.aliases import OTHER_UNITS, our_keys

COMMANDS = Path(__file__).parents[1]
"""Each of its folders with a `__main__.py` is a command."""
GYM_ID = re.compile(r"[\w./~:\\-]+-v\d+")
"""What looks like the id of a Gymnasium environment."""

_TYPESET = "\u201c\u201d\u201e\u2018\u2019\u2013\u2014\u2212"
"""Quotes and dashes that a word processor or a web page puts in the place of plain ones."""
_OPEN, _CLOSED = "[{(", "]})"


def meant_keys(key: str, keys: Sequence[str]) -> list[str]:
    """Returns those of the dotted `keys` that may be meant by `key`, another library's or one without its group."""
    name = re.sub(r"[/:. ]+", ".", key.replace("-", "_").lower()).strip(".")
    if name in keys:
        return [name]
    tops = {each.partition(".")[0] for each in keys}
    if ours := [each for each in our_keys(name, tops) if each in keys]:
        return ours
    by_last: dict[str, list[str]] = {}
    for each in keys:
        by_last.setdefault(each.rpartition(".")[2], []).append(each)
    last = name.rpartition(".")[2]
    close = [last] if last in by_last else difflib.get_close_matches(last, by_last, n=1, cutoff=0.8)
    return [each for word in close for each in by_last[word]][:_MOST]


def unknown_flag(flag: str, following: str | None, keys: Sequence[str]) -> str:
    """Returns what is wrong with a flag that does not exist, and the setting that seems to be meant."""
    name, equals, value = flag.lstrip("-" + _TYPESET).partition("=")
    if not equals:
        value = following if following and not following.startswith("-") else "..."
    how = f"{flag} is no flag: settings are written key=value, without dashes"
    if name in ("experiment", "config") and "experiment" in keys:
        return f"{how}: {_experiment(value)}"
    if name in ("env", "env-id") and GYM_ID.fullmatch(value) and "env.id" in keys:
        return f"{how}: env.id={value}"
    meant = meant_keys(name, keys)
    value = "..." if name.replace("-", "_") in OTHER_UNITS.split() else value
    return f"{how}: {' or '.join(f'{key}={value}' for key in meant)}" if meant else f"{how}; --help lists them"


def misread(word: str, words: Sequence[str], keys: Sequence[str]) -> str:
    """Returns what is wrong with a word that cannot be read, and what seems to be meant.

    Args:
        word: one of `words`.
        words: the command line.
        keys: the dotted keys of the command's settings; the first is the one that it always needs, if there is such.
    """
    at = words.index(word) if word in words else 0
    before, following = words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else ""
    key, equals, value = word.lstrip("+").partition("=")
    cannot = f"cannot read {word.lstrip('+')!r}"
    if not word:
        return "an argument is empty, as a variable of the shell without a value is: write key=value, or leave it out"
    if following.startswith("=") or (before.endswith("=") and not equals) or word.startswith("="):
        parts = [before, word] if before.endswith("=") and not following.startswith("=") else words[at : at + 3]
        parts = [part.lstrip("+") for part in parts if part]
        joined = "".join(parts if parts[0].endswith("=") or following == "=" else parts[:2])
        example = joined if re.fullmatch(r"[\w.]+=.+", joined) else "key=value"
        return f"cannot read {' '.join(parts)!r}: write {example}, without spaces around ="
    if equals and (balance := _balance(value)):
        rest = next((n for n in range(at + 2, len(words) + 1) if not _balance(" ".join(words[at:n]))), None)
        if balance > 0 and rest is not None:
            whole = " ".join(words[at:rest]).lstrip("+")
            return f"{cannot}: the shell ends a word at a space; put quotes around the whole: '{whole}'"
        return f"{cannot}: its brackets do not match"
    if equals and re.fullmatch(r"\(.*\)", value):
        return f"{cannot}: lists are written {key}=[{value[1:-1]}]"
    if equals and re.search(r"""[{,]\s*["']\w+["']\s*:""", value):
        plain = re.sub(r"""["'](\w+)["'](\s*:)""", r"\1\2", value)
        return f"{cannot}: names in braces stand without quotes, '{key}={plain}'"
    if re.search(r"=\S*\s+\+*[\w.]+=", word):
        return f"{cannot}: these are several settings in one pair of quotes; give each a pair of its own, or none"
    if found := next((each for each in word if each in _TYPESET), None):
        return f"{cannot}: it holds {found}, which is no plain quote or dash; type it anew"
    if equals and re.search("[/: ]|[.]{2}|^[.]", key) and (meant := meant_keys(key, keys)):
        return f"{cannot}: write {meant[0]}={value}"
    if word.endswith(",") and equals:
        return f"{cannot}: settings are separated by spaces, without commas"
    right = None if equals else _word(word, following, keys)
    return f"{cannot}: {right or 'write key=value, and quote values that hold = , [ ] { }'}"


def file_of_choice(group: str, choice: str) -> Path | None:
    """Returns the YAML file in a folder `group` that was meant by a choice that is not found; None if there is none."""
    here = Path(choice)
    candidates = (here, here.with_name(f"{here.name}.yaml"), Path(group, f"{choice}.yaml"), Path(group, choice))
    return next((each for each in candidates if each.is_file() and each.resolve().parent.name == group), None)


def in_folder(file: Path) -> str:
    """Returns the words by which a file in a folder `experiment`, `env` or the like is chosen."""
    folder, group = file.parent.parent, file.resolve().parent.name
    if group == "experiment" and folder.resolve() == Path.cwd():
        return f"+experiment={file.stem}"
    return f"--config-dir {shlex.quote(str(folder))} +{group}={file.stem}"


def _experiment(name: str) -> str:
    if file := file_of_choice("experiment", name):
        return in_folder(file)
    return f"+experiment={Path(name).stem if name.endswith(('.yaml', '.yml')) else name}"


def _word(word: str, following: str, keys: Sequence[str]) -> str | None:
    """Returns what seems to be meant by a word without `=`; None if nothing is known of it."""
    path, first = Path(word), keys[0] if keys else ""
    key, colon, value = word.partition(":")
    if word.lower() in ("help", "version", "usage"):
        return f"write --{'version' if word.lower() == 'version' else 'help'}"
    if word == "train" or (COMMANDS / word / "__main__.py").is_file():
        return f"{word} is a command of its own, outstep {word} ..."
    if word in keys:
        return f"{word} needs a value, {word}={following if following and '=' not in following else '...'}"
    if colon and key in keys:
        return f"write {key}={value}"
    if path.suffix in (".yaml", ".yml"):
        if "experiment" not in keys:
            return None
        named = "" if file_of_choice("experiment", word) else ", of a file in a folder named experiment"
        return f"an experiment is given as {_experiment(word)}{named}; ML-Agents' files become one by outstep convert"
    if (path / "config.yaml").is_file() and "resume" in keys:
        return f"write resume={word} to go on with that run"
    if "env.id" in keys and "algorithm" in keys:
        if GYM_ID.fullmatch(word):
            return f"write env.id={word}"
        if word.lower() in ALGORITHMS.names():
            return f"write algorithm={word.lower()}"
        return None
    return f"write {first}={word}" if first in ("run", "model") else None


def _balance(text: str) -> int:
    """Returns how many brackets are open at the end of `text`."""
    return sum(text.count(each) for each in _OPEN) - sum(text.count(each) for each in _CLOSED)


def close_choice(choice: str, options: Collection[str]) -> str | None:
    """Returns the one of `options` that `choice` seems to mean: it is alike and begins with the same letter."""
    same = {option.lower(): option for option in options if option[:1].lower() == choice[:1].lower()}
    close = difflib.get_close_matches(choice.lower(), same, n=1)
    return same[close[0]] if close else None


_MOST = 3
