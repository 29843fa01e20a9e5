"""Standard output and error that never end a process: their reader may go away, and a name may not be printable.

A log that is piped to `head`, a terminal that is closed and a disk that is full refuse what is written; a code page and
`LANG=C` lack characters. Neither is a reason to end a run, an env that prints, or a command that has done its work.
Messages that are logged bring no control characters of others to a terminal.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys


def keep_output() -> None:
    """Lets this process print whatever becomes of its output: what cannot be written is left out.

    Characters that the output's encoding lacks are escaped. Standard streams that are closed are opened on the null
    device: a file that is opened later would take their place, and the messages of libraries would go into it.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif type(stream) is io.TextIOWrapper:  # no notebook's, and none that a test captures
            with contextlib.suppress(OSError):
                stream.flush()
            raw = getattr(stream.buffer, "raw", stream.buffer)  # the same with `python -u`
            if isinstance(raw, io.RawIOBase) and not isinstance(raw, _Kept):
                setattr(sys, name, _kept(raw, stream))


def _without_control_characters(record: logging.LogRecord) -> bool:
    """Escapes what a terminal might obey in a message of ours."""
    from envs.spec import printable  # numpy takes longer to import than a small process

    record.msg, record.args = printable(record.getMessage()), ()
    return True


logging.getLogger("outstep").addFilter(_without_control_characters)


class _Kept(io.RawIOBase):
    """Writes to another stream, and leaves out what that refuses."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.name = getattr(raw, "name", "")
        self.mode = getattr(raw, "mode", "wb")

    def write(self, data: object) -> int:
        with contextlib.suppress(OSError):
            if written := self._raw.write(data):  # type: ignore[arg-type]
                return written
        return memoryview(data).nbytes  # type: ignore[arg-type]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()


def _kept(raw: io.RawIOBase, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Kept(raw)),
        encoding=stream.encoding,
        errors="backslashreplace",
        newline=None,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
