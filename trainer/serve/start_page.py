"""The endpoint's first page: a request for this very model that works when pasted, and what the model takes and gives.

Names come from a model file, which may be anybody's: in text they are cut and escaped for terminals, in JSON no
character of theirs ends a quoted string of a shell, and in HTML they are escaped once more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import numpy as np

from algorithms.onnx.contract import Exported
from trainer.serve.arrays import cut, shape_words
from trainer.serve.docs_page import STYLE, content_security_policy

CONTENT_SECURITY_POLICY = content_security_policy()
_MOST_LITERAL = 200
"""Numbers of an observation that a request shows; zeros of larger ones are made by a loop of the shell."""
_LONGEST_ARGUMENT = 2000
"""Characters of a request that a command may hold; longer ones are sent through a pipe."""
_MOST_LINES = 20
"""How many observations the page lists."""
_LONGEST_REPLY = 1000
_MORE = {"docs": "a form, and the schema", "openapi.json": "the schema for programs", "metrics": "for Prometheus"}
_HOST = re.compile(r"([a-z\d._-]{1,255}|\[[a-f\d:.]{2,45}\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)


class Section(NamedTuple):
    """A part of the page."""

    heading: str
    text: str


def example(exported: Exported) -> bytes | None:
    """Returns the request of the page; None if it is made by a loop."""
    observations = exported.spec.observations
    if max(math.prod(o.shape) for o in observations) > _MOST_LITERAL or len(observations) > _MOST_LINES:
        return None
    zeros = {o.name: np.zeros((1, *o.shape), o.dtype).tolist() for o in observations}
    return json.dumps({"observations": zeros if len(zeros) > 1 else next(iter(zeros.values()))}).encode()


def sections(exported: Exported, reply: bytes | None, host: str) -> list[Section]:
    """Returns the page of a server at `host`; `reply` is that to the example."""
    url = f"http://{host}"
    bash, powershell = _commands(exported, url)
    parts = [Section("In a shell (bash, zsh)", bash), Section("In PowerShell", powershell)]
    if reply is not None:
        shown = reply.decode()
        parts.append(Section("It answers", shown if len(shown) <= _LONGEST_REPLY else f"{shown[:_LONGEST_REPLY]} ..."))
    parts.append(Section("It takes, as JSON", _columns(_takes(exported))))
    parts.append(Section("It gives", _columns(_gives(exported))))
    return parts


def as_text(title: str, parts: list[Section], host: str) -> bytes:
    """Returns the page for a terminal."""
    more = Section("More", "\n".join(f"http://{host}/{path}  {about}" for path, about in _MORE.items()))
    body = "\n\n".join(f"{heading}:\n{_indented(text)}" for heading, text in (*parts, more))
    return f"{cut(title)}\n\n{body}\n".encode()


def as_html(title: str, parts: list[Section]) -> bytes:
    """Returns the page for a browser. It loads nothing and runs nothing."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n<pre>{escape(text)}</pre>" for heading, text in parts)
    more = "\n".join(f'<li><a href="{path}">{path}</a>: {about}</li>' for path, about in _MORE.items())
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>
<style>{STYLE}</style></head>
<body>
<h1>{escape(title)}</h1>
{body}
<h2>More</h2>
<ul>
{more}
</ul>
</body>
</html>
""".encode()


def host_of(header: str, otherwise: str) -> str:
    """Returns the `Host` of a request if it can stand in a command as it is, else another."""
    return header if _HOST.fullmatch(header) else otherwise


def _commands(exported: Exported, url: str) -> tuple[str, str]:
    """Returns the request for a POSIX shell and for PowerShell."""
    bash, powershell, parts = [], [], []
    for i, observation in enumerate(exported.spec.observations):
        zero = "0" if observation.dtype == "uint8" else "0.0"
        if math.prod(observation.shape) <= _MOST_LITERAL:
            value = json.dumps(np.zeros((1, *observation.shape), observation.dtype).tolist())
        else:
            sizes = [str(size) for size in reversed(observation.shape)]
            loop = f'o{i}=$(printf "%${{n}}s" | sed "s/ /$o{i},/g"); o{i}="[${{o{i}%,}}]"'
            bash.append(f'o{i}={zero}; for n in {" ".join(sizes)}; do {loop}; done; o{i}="[$o{i}]"')
            loop = f"$o{i} = '[' + ((@($o{i}) * $n) -join ',') + ']'"
            powershell.append(f"$o{i} = '{zero}'; foreach ($n in {', '.join(sizes)}) {{ {loop} }}; $o{i} = \"[$o{i}]\"")
            value = f"'$o{i}'"  # no JSON has an apostrophe
        parts.append((_quoted(observation.name), value))
    values = parts[0][1] if len(parts) == 1 else f"{{{', '.join(f'{name}: {value}' for name, value in parts)}}}"
    body = f'{{"observations": {values}}}'
    for_bash = re.sub(r"'(\$o\d+)'", r"""'"\1"'""", body)
    if bash or len(body) > _LONGEST_ARGUMENT:
        bash.append(f"printf %s '{for_bash}' | curl -d @- '{url}/invocations'")
    else:
        bash.append(f"curl -d '{for_bash}' '{url}/invocations'")
    for_powershell = re.sub(r"'(\$o\d+)'", r"' + \1 + '", body)
    sent = f"('{for_powershell}')" if powershell else f"'{for_powershell}'"
    options = f"-Method Post -ContentType 'application/json' -Body {sent}"
    powershell.append(f"Invoke-RestMethod '{url}/invocations' {options} | ConvertTo-Json -Depth 9 -Compress")
    return "\n".join(bash), "\n".join(powershell)


def _quoted(name: str) -> str:
    """Returns a name as JSON that may stand between apostrophes."""
    return json.dumps(name).replace("'", r"\u0027")


def _takes(exported: Exported) -> Iterator[tuple[str, str]]:
    spec = exported.spec
    kinds = {"uint8": "whole numbers from 0 to 255", "float32": "numbers"}
    if len(spec.observations) == 1:
        only = spec.observations[0]
        yield "observations", f"{kinds[only.dtype]}, {shape_words(only.shape)}: N rows of {cut(only.name)}"
    else:
        yield "observations", "an object of these, N rows each"
        for o in spec.observations[:_MOST_LINES]:
            yield f"  {cut(o.name)}", f"{kinds[o.dtype]}, {shape_words(o.shape)}"
        if more := len(spec.observations[_MOST_LINES:]):
            yield "  ...", f"and {more} more: see openapi.json"
    if spec.branches:
        about = f"optional, {shape_words((sum(spec.branches),))}: 1 = allowed, 0 = not, for each choice of each branch"
        yield "action_masks", about
    if exported.memory_size:
        about = f"optional, {shape_words((exported.memory_size,))}: what the last reply gave; none: an episode begins"
        yield "memory", about
    yield "deterministic", "optional, true or false: whether the likeliest actions are taken; true unless it is given"


def _gives(exported: Exported) -> Iterator[tuple[str, str]]:
    spec = exported.spec
    if spec.continuous_size:
        yield "continuous_actions", f"numbers from -1 to 1, {shape_words((spec.continuous_size,))}"
    if spec.branches:
        shown = ", ".join(f"0 to {size - 1}" for size in spec.branches[:_MOST_LINES])
        shown += ", ..." if len(spec.branches) > _MOST_LINES else ""
        yield "discrete_actions", f"choices, {shape_words((len(spec.branches),))}: {shown}"
    if exported.memory_size:
        yield "memory", f"numbers, {shape_words((exported.memory_size,))}, to be sent with the next request"


def _columns(rows: Iterator[tuple[str, str]]) -> str:
    named = list(rows)
    width = min(24, max(len(name) for name, _ in named))
    return "\n".join(f"{name:<{width}}  {about}" for name, about in named)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
