"""How a process ends with its parent, and leaves the parent's signals alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl+C, a scheduler's notice, a closed terminal; Windows lacks the last."""


def run_following(tie: bool, module: str, name: str, *arguments: Any) -> None:
    """Main function of a process that ends when its parent does, even while a step never returns.

    It calls the function `name` of `module` with `arguments`, and follows its parent from before the import on. Signals
    are left to the parent: Ctrl+C, a closed terminal and many schedulers signal a whole group, while it is the parent's
    to save and to end. With `tie`, Linux kills the process when the thread that started it ends; else a thread watches
    for the parent.
    """
    ignore_signals()
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    wait_precisely()
    if tie:  # a step that holds Python's lock stops the thread above, not the kernel
        end_with_launcher()
    getattr(import_module(module), name)(*arguments)


def start_following(name: str, function: Callable[..., object], *arguments: Any, daemon: bool = True) -> BaseProcess:
    """Starts a process that calls `function` with `arguments` and ends when this one does; see `run_following`.

    The function goes by its name: importing its file takes a while, in which this process may be killed. Only a process
    that is not a `daemon` may have children.
    """
    tie = threading.current_thread() is threading.main_thread()
    arguments = (tie, function.__module__, function.__name__, *arguments)
    process = get_context("spawn").Process(target=run_following, args=arguments, name=name, daemon=daemon)
    process.start()
    return process


def wait_precisely() -> None:
    """Linux ends a wait for a deadline up to 50 us late unless asked not to."""
    _prctl(_PR_SET_TIMERSLACK, 1)


def ignore_signals() -> None:
    """Leaves signals that reach a whole group to the parent."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_with_launcher() -> None:
    """The kernel of Linux kills this process when the thread that started it ends."""
    if sys.platform == "linux":  # elsewhere there may be no SIGKILL
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def release_memory() -> None:
    """Gives memory that was freed back to the system, where glibc would keep it for later."""
    if _LIBC is not None:
        with contextlib.suppress(AttributeError):
            _LIBC.malloc_trim(0)


_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29
# Loaded here, as it may be called between fork and exec, where nothing should be imported any more.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> None:
    if _LIBC is not None:
        with contextlib.suppress(AttributeError):
            _LIBC.prctl(option, value, 0, 0, 0)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
