"""Who is at the other end of a connection on this machine: its user and its process.

Linux says so in `/proc`. Elsewhere, and where `/proc` cannot be read, every client is let in that reaches the port.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_address


def refusal(sock: socket.socket, launched: int | None) -> str | None:
    """Returns why the client of an accepted connection is not to be served, with its name; None if it may be.

    It has to be the process `launched` or one that this has started. Where a person starts it (None), it has to be
    a process of this user's; the system's own are trusted, as they pass on connections from elsewhere.
    """
    if sys.platform != "linux":
        return None
    try:
        user, inode = _find_socket(sock.getpeername()[:2], sock.getsockname()[1])
    except OSError:
        return None
    if not inode:
        return "it had gone before it could be looked at"
    if launched is None:
        return None if user in (os.getuid(), 0) else f"{_described(user, inode)} is not of this user"
    if user == os.getuid() and _holder(_tree(launched), inode) is not None:
        return None
    return f"{_described(user, inode)} is neither the player that was launched nor a process that it has started"


_ESTABLISHED = "01"


def _find_socket(address: tuple[str, int], to_port: int) -> tuple[int, int]:
    """Returns the user and the inode of the socket at `address` that is connected to `to_port`; no inode if none is."""
    wanted = ip_address(address[0]), address[1]
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError) if table.endswith("6") else contextlib.nullcontext():
            for line in open(table):  # noqa: SIM115 - closed at its end, or soon
                fields = line.split()
                if fields[3] != _ESTABLISHED or fields[2].rpartition(":")[2] != f"{to_port:04X}":
                    continue
                if _address(fields[1]) == wanted:
                    return int(fields[7]), int(fields[9])
    return -1, 0


def _address(text: str) -> tuple[object, int]:
    """Returns the address and the port in a field of the tables: words in the machine's order of bytes."""
    words, _, port = text.rpartition(":")
    packed = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
    address = ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address, int(port, 16)


def _tree(root: int) -> set[int]:
    """Returns a process and those that it has started, directly or not.

    It leads a session: that of one whose parent has ended tells where it comes from.
    """
    children: dict[int, list[int]] = {}
    found, new = set(), [root]
    for pid in _processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            parent, _, session = map(int, file.read().rpartition(b") ")[2].split(maxsplit=4)[1:4])
            children.setdefault(parent, []).append(pid)
            if session == root:
                new.append(pid)
    while new:
        pid = new.pop()
        if pid not in found:
            found.add(pid)
            new += children.get(pid, [])
    return found


def _holder(pids: Iterable[int], inode: int) -> int | None:
    """Returns the first of these processes that has the socket open, as far as one may look."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for each in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{each}") == f"socket:[{inode}]":
                        return pid
    return None


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _described(user: int, inode: int) -> str:
    import pwd

    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    pid = _holder(_processes(), inode)
    if pid is None:
        return f"a process of user {name}"
    command = ""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(_SHOWN_BYTES).rstrip(b"\0").split(b"\0")
        command = f" ({b' '.join(words).decode(errors='replace')!r})"
    return f"process {pid} of user {name}{command}"


_SHOWN_BYTES = 200
