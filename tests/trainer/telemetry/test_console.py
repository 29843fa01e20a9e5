import io
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.telemetry.console import Progress, announced, log
from trainer.telemetry.status import Status

STATUS = Status(
    samples=12345,
    seconds=3725.0,
    samples_per_second=296.24,
    env_utilization=0.9876,
    reward=0.512,
    goal=("bubbles", 27.31, 24.9),
    shares={"acting": 0.02, "waiting for games": 0.9, "updating": 0.5},
    seconds_left=61.0,
)
LINE = (
    "samples 12,345  time 1:02:05  samples/s 296.2  env utilization 0.988  reward 0.512  bubbles 27.31 (goal 24.9)  "
    "acting 2%  waiting for games 90%  updating 50%  left 0:01:01"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress("title", tmp_path, stream) as progress:
        progress.show(STATUS)
        assert stream.getvalue() == ""
        progress.line(STATUS)
        log.warning("instance 3 restarted")
    assert stream.getvalue() == f"{LINE}\ninstance 3 restarted\n"


def test_a_terminal_shows_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("title", tmp_path, stream) as progress:
        progress.show(replace(STATUS, diagnosis="The policy hardly moves."))
    assert "The policy hardly moves." in stream.getvalue()


def test_a_terminal_shows_every_figure_and_messages_but_no_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with Progress("snoopy_sac", tmp_path, stream) as progress:
        progress.show(STATUS)
        progress.line(STATUS)
        log.info("instance 3 restarted")
    shown = stream.getvalue()
    for text in ("snoopy_sac", "0:01:01 left", "12,345", "1:02:05", "296.2", "98.8%", "0.512"):
        assert text in shown
    for text in ("acting", "waiting for games", "90%", "updating", "instance 3 restarted"):
        assert text in shown
    assert LINE not in shown


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_the_log_file_has_lines_and_messages_either_way(tmp_path: Path, stream: io.StringIO) -> None:
    for _ in range(2):  # a resumed run goes on in the same file
        with Progress("title", tmp_path, stream) as progress:
            progress.line(STATUS)
            log.warning("instance 3 restarted")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [f"INFO {LINE}", "WARNING instance 3 restarted"] * 2


def test_a_stream_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with Progress("title", tmp_path, Full()) as progress:
        progress.line(STATUS)
        log.warning("instance 3 restarted")
    assert "instance 3 restarted" in (tmp_path / "train.log").read_text()


def test_logging_is_as_before_once_the_run_is_over(tmp_path: Path) -> None:
    before = list(log.handlers), log.propagate
    with Progress("title", tmp_path, io.StringIO()):
        assert len(log.handlers) == len(before[0]) + 2
    assert (log.handlers, log.propagate) == before


def test_figures_that_are_unknown_are_left_out(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress("title", tmp_path, stream) as progress:
        progress.line(Status(samples=0, seconds=0.0, samples_per_second=0.0, goal=("bubbles", None, 25.0)))
    assert stream.getvalue() == "samples 0  time 0:00:00  samples/s 0.0  bubbles - (goal 25)\n"


def test_the_start_is_said_at_once_with_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, plain = Terminal(), io.StringIO()
    for stream in (terminal, plain):
        with Progress("title", tmp_path, stream) as progress:
            progress.start("Starting 16 games …")
            progress.wait("3 of 16 games have started")
    assert "Starting 16 games …" in terminal.getvalue()
    assert "3 of 16 games have started" in terminal.getvalue()
    assert plain.getvalue() == "Starting 16 games …\n"
    assert (tmp_path / "train.log").read_text().count("INFO Starting 16 games …") == 2


def test_the_last_panel_stands_above_the_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("title", tmp_path, stream) as progress:
        progress.show(STATUS)
        progress.end(replace(STATUS, samples=99999))
        log.info("The run ended")
    shown = stream.getvalue()
    assert shown.index("ended after 1:02:05") < shown.index("99,999") < shown.index("The run ended")
    assert shown.count("The run ended") == 1


def test_the_cursor_is_never_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with announced("Checking the environment …"):
        pass
    with Progress("title", tmp_path, stream) as progress:
        progress.start("Starting 16 games …")
        progress.show(STATUS)
    assert "Checking the environment …" in stream.getvalue()
    assert "\x1b[?25l" not in stream.getvalue()  # a process that is killed could not show it again
