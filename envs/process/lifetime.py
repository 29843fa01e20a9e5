"""How a process ends with its parent, takes what it has started with it, and leaves the parent's signals alone.

A process that is started here bears a mark, and so does whatever descends from it (`keeper`). Its descendants are
killed when it has ended (`end_process`); should the run's first process be killed, its keeper kills them all.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing import current_process, get_context, parent_process, resource_tracker, spawn
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakKeyDictionary

from envs.process import keeper
from envs.process.output import keep_output

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl+C, a scheduler's notice, a closed terminal; Windows lacks the last."""
CLOSE_SECONDS = 2.0
"""So long an env's `close` may take: then its process is killed."""


def run_following(tie: bool, mark: str, first: bool, module: str, name: str, *arguments: Any) -> None:
    """Main function of a process that ends when its parent does, even while a step never returns.

    It calls the function `name` of `module` with `arguments`, and follows its parent from before the import on. Signals
    are left to the parent: Ctrl+C, a closed terminal and many schedulers signal a whole group, while it is the parent's
    to save and to end. With `tie`, Linux kills the process when the thread that started it ends; else a thread watches
    for the parent. It bears `mark`; with `first`, what started it is the first process of the run.
    """
    keep_output()
    ignore_signals()
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    wait_precisely()
    if tie:  # a step that holds Python's lock stops the thread above, not the kernel
        end_with_launcher()
    _own.mark = mark
    if sys.platform != "win32":
        if first:
            os.setsid()  # Ctrl+C on the terminal does not reach games either
        else:
            os.setpgid(0, 0)
    # Its parent need not wait for it at exit, so it is a daemon there; here it may have children, as games do.
    vars(current_process())["_config"]["daemon"] = False
    getattr(import_module(module), name)(*arguments)


def start_following(name: str, function: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Starts a process that calls `function` with `arguments` and ends when this one does; see `run_following`.

    The function goes by its name: importing its file takes a while, in which this process may be killed. The main
    module of the program is not imported there: see `start_without_main`.
    """
    tie = threading.current_thread() is threading.main_thread()
    mark = new_mark()
    arguments = (tie, mark, _own.keeper is not None, function.__module__, function.__name__, *arguments)
    process = get_context("spawn").Process(target=run_following, args=arguments, name=name, daemon=True)
    with bearing(mark):
        start_without_main(process)
    _own.marks[process] = mark
    _tell_keeper(f"+{process.pid} {mark}")
    return process


def new_mark() -> str:
    """Returns a mark for what this process starts; see `bearing`."""
    return f"{_own.mark or _become_first()}/{next(_own.started)}"


@contextlib.contextmanager
def bearing(mark: str) -> Iterator[None]:
    """Lets what is started meanwhile, and all that descends from it, bear a mark, for `keeper.kill_marked`."""
    if os.name == "posix":
        resource_tracker.ensure_running()  # before, so that it does not get the mark
    before = os.environ.get(keeper.NAME)
    os.environ[keeper.NAME] = mark
    try:
        yield
    finally:
        os.environ.pop(keeper.NAME, None)
        if before is not None:
            os.environ[keeper.NAME] = before


def start_without_main(process: BaseProcess) -> None:
    """Starts a spawned process that does not import the main module of the program, as others do.

    A script without a main guard would train once more in each, and a notebook or a pipe has no file to be imported.
    """
    _starting.without_main = True
    try:
        process.start()
    finally:
        _starting.without_main = False


def end_process(process: BaseProcess, seconds: float = 0.0) -> None:
    """Gives a process of `start_following` so long to end by itself, then kills it; what it has started is killed."""
    process.join(seconds)
    process.kill()
    process.join()
    keeper.kill_marked(_own.marks[process], (process.pid or -1,))
    _tell_keeper(f"-{process.pid}")


def kill_soon(process: BaseProcess) -> None:
    """Kills a process of `start_following` and what it has started, and waits for nothing."""
    process.kill()
    arguments = (_own.marks[process], (process.pid or -1,))
    threading.Thread(target=keeper.kill_marked, args=arguments, daemon=True).start()


def described_end(status: int | None) -> str:
    """Returns how a process ended, from its exit status, which is negative for a signal."""
    if status is None or status >= 0:
        return f"its process ended (exit status {status})"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # one without a name
        name = f"signal {-status}"
    memory = "; the system may have been out of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{memory}"


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Kills, at its end, what this process has started meanwhile; a keeper does, should this process be killed."""
    mark = new_mark()
    try:
        with bearing(mark):
            yield
    finally:
        keeper.kill_marked(mark)


def wait_precisely() -> None:
    """Linux ends a wait for a deadline up to 50 us late unless asked not to."""
    _prctl(_PR_SET_TIMERSLACK, 1)


def ignore_signals() -> None:
    """Leaves signals that reach a whole group to the parent; programs and processes that this one starts get them."""
    for number in SIGNALS:
        signal.signal(number, _do_nothing)  # SIG_IGN would be inherited by programs
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_heed_signals)


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


class _Own:
    """What this process knows of itself and of those that it has started."""

    mark = ""
    """That it bears; empty before it starts one, where nothing of ours has started it."""

    keeper: subprocess.Popen[bytes] | None = None

    def __init__(self) -> None:
        self.started = itertools.count(1)
        self.marks: WeakKeyDictionary[BaseProcess, str] = WeakKeyDictionary()


_own = _Own()


def _become_first() -> str:
    """Chooses the mark of a run whose first process this is, and starts its keeper."""
    inherited = os.environ.get(keeper.NAME)  # a run that a game starts goes with that
    _own.mark = f"{inherited}/{secrets.token_hex(8)}" if inherited else secrets.token_hex(8)
    with contextlib.suppress(OSError):  # without one, only a first process that is killed leaves something behind
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        _own.keeper = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", keeper.__file__, _own.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **options,
        )
    return _own.mark


def _tell_keeper(line: str) -> None:
    if _own.keeper is not None and _own.keeper.stdin is not None:
        with contextlib.suppress(OSError):  # it was killed
            _own.keeper.stdin.write(f"{line}\n".encode())
            _own.keeper.stdin.flush()


def _preparation_data(name: str) -> dict[str, Any]:
    """Stands in for multiprocessing's function, which has no way to leave the main module out."""
    data = _prepare(name)
    if getattr(_starting, "without_main", False):
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


_starting = threading.local()
_prepare, spawn.get_preparation_data = spawn.get_preparation_data, _preparation_data


def _do_nothing(number: int, frame: object) -> None:
    pass


def _heed_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
