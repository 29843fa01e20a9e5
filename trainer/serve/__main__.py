"""`outstep serve model=Snoopy.onnx port=8080`: serves an exported policy over HTTP.

Needs onnxruntime, FastAPI and uvicorn (`pip install 'outstep[serve]'`), and no torch. Exit statuses: 0 it was stopped
by Ctrl+C or SIGTERM, and has answered the requests under way; 2 bad input, with one message.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence

from envs.spec import UserError
from trainer.config.command import run_command
from trainer.config.schema import ServeConfig
from trainer.serve.arrays import cut
from trainer.serve.onnx_policy import Model

_PATIENCE_SECONDS = 5
"""How long requests under way may take once the server is asked to stop."""
_KEEP_ALIVE_SECONDS = 60
"""How long a connection may be silent between two requests."""
_BACKLOG = 100
"""How many connections may wait to be accepted. All are accepted in one turn of the loop, while nobody is answered."""
_MOST_CONNECTIONS = 512
_SMALL_REQUESTS_BYTES = 2**21
"""What requests that wait may have together, besides large ones, whose bodies have a budget of their own. In memory it
is twice as much."""

_SWITCH_SECONDS = 1e-4


def main(argv: Sequence[str] | None = None) -> int:
    """Answers over HTTP with the actions of an exported policy."""
    return run_command(argv, ServeConfig, "serve", lambda config: None, _serve)


def _serve(config: ServeConfig) -> int:
    try:
        import uvicorn

        from trainer.serve.access_log import AccessLog
        from trainer.serve.app import make_app
        from trainer.serve.connections import Settings
        from trainer.serve.observed import Observer
    except ImportError as error:
        raise UserError(f"the endpoint's libraries are missing ({error}): pip install 'outstep[serve]'") from error
    model = Model.load(config.model)
    log = AccessLog(sys.stdout.fileno()) if config.access_log else None
    observer = Observer(log=log)
    app = make_app(model, config, observer)
    listening = _listen(config)
    settings = Settings(
        app,
        request_seconds=config.request_seconds,
        most_connections=_most_connections(),
        most_bytes=_SMALL_REQUESTS_BYTES + 2 * int(config.max_body_mib * 2**20),
        observer=observer,
        log_level="warning",
        access_log=False,  # uvicorn's own, which waits for its reader
        lifespan="off",
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_PATIENCE_SECONDS,
    )
    # Requests are read by one thread, and long ones answered by another: each byte must not wait 5 ms for its turn.
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Uvicorn stops by these signals, and then raises them again.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(
        f"serving {cut(model.exported.spec.name)} from {config.model} on http://{shown}:{port}/invocations", flush=True
    )
    server = uvicorn.Server(settings)
    connections = server.server_state.connections
    observer.metrics.gauges["outstep_connections"] = ("Open connections.", lambda: len(connections))
    server.run(sockets=[listening])
    if log is not None:
        log.close()
    return 0


def _most_connections() -> int:
    """Returns how many connections there may be, for which the system has to let the process open files."""
    try:
        import resource
    except ImportError:  # Windows
        return _MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * _MOST_CONNECTIONS  # a burst is accepted before all but the newest are closed
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _MOST_CONNECTIONS
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(_MOST_CONNECTIONS, soft // 4)


def _listen(config: ServeConfig) -> socket.socket:
    """Returns a listening socket that no other process shares; UserError if the port or the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # there it would let two share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"host={config.host} port={config.port} cannot be listened on ({reason}): name another port, or port=0"
        ) from error
    return listening


if __name__ == "__main__":
    sys.exit(main())
