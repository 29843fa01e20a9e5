from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from envs.process.peers import refusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says who has connected")

CONNECTS = "import socket, sys, time; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); time.sleep(600)"
ORPHANS = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]); print(flush=True)"
MAPPED = """
import socket, sys, time
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.connect(("::ffff:127.0.0.1", int(sys.argv[2])))
time.sleep(600)
"""
STARTS = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', *sys.argv[1:]]); time.sleep(600)"


class Listener:
    """Accepts what a program connects that is started in a session of its own, as players are."""

    def __init__(self, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.server = socket.create_server((host, 0), family=family)
        self.server.settimeout(60)
        self.started = []
        self.words = [host, str(self.server.getsockname()[1])]

    def accept(self, *command):
        """The socket of the program's connection, and its process."""
        process = subprocess.Popen([sys.executable, "-c", *command, *self.words], start_new_session=True)
        self.started.append(process)
        return self.server.accept()[0], process

    def close(self):
        self.server.close()
        for process in self.started:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request):
    try:
        listener = Listener(request.param)
    except OSError:
        pytest.skip("no IPv6 here")
    yield listener
    listener.close()


def test_the_process_that_was_launched_and_those_that_it_has_started_are_let_in(listener):
    sock, process = listener.accept(CONNECTS)
    assert refusal(sock, process.pid) is None
    sock, process = listener.accept(
        "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])", CONNECTS
    )
    assert refusal(sock, process.pid) is None


def test_a_descendant_whose_parent_has_ended_is_let_in():
    listener = Listener()
    try:
        launched = (
            "import subprocess, sys, time; subprocess.run([sys.executable, '-c', *sys.argv[1:]]); time.sleep(600)"
        )
        sock, process = listener.accept(launched, ORPHANS, CONNECTS)
        assert refusal(sock, process.pid) is None
    finally:
        listener.close()


def test_a_socket_of_ipv6_that_speaks_ipv4_is_found():
    listener = Listener()
    try:
        sock, process = listener.accept(MAPPED)
        assert refusal(sock, process.pid) is None
    finally:
        listener.close()


def test_another_process_is_refused_by_name_and_the_editor_may_be_any_of_this_user(listener):
    sock, process = listener.accept(CONNECTS)
    _, other = listener.accept(CONNECTS)
    why = refusal(sock, other.pid)
    assert why.startswith(f"process {process.pid} of user ")
    assert "import socket, sys, time" in why
    assert why.endswith("is neither the player that was launched nor a process that it has started")
    assert refusal(sock, None) is None


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can start a process of another user"
)
def test_a_process_of_another_user_is_refused(listener):
    import pwd

    nobody = pwd.getpwnam("nobody").pw_uid
    become = f"import encodings.idna, os, socket, sys, time; os.setgid(65534); os.setuid({nobody}); "
    sock, process = listener.accept(become + CONNECTS)
    for launched in (process.pid, None):  # even where it was launched: what the player is runs as this user
        why = refusal(sock, launched)
        assert f"process {process.pid} of user nobody" in why
    assert why.endswith("is not of this user")


def test_who_has_gone_is_refused():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    sock, _ = server.accept()
    client.close()
    assert refusal(sock, None) == "it had gone before it could be looked at"
    sock.close()
    server.close()
