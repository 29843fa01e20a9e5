"""Runs that were cut off anywhere go on as if nothing had been, from damaged checkpoints and later versions' too."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import trainer.checkpoint as checkpoint_module
from tests.trainer.imitation.toys import all_of_it, write_demo
from tests.trainer.tiny_runs import PPO, SAC, newest, same_end, summary
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore
from trainer.evaluate.__main__ import main as evaluate_main
from trainer.report.curves import read_history

INLINE = ["env=basic", "env.workers=1", "run.mode=inline"]
REMEMBER = [f"algorithm.network.memory.{each}" for each in ("cell=gru", "size=6", "sequence_length=5", "burn_in=2")]
CURIOUS = ["reward.curiosity.strength=0.1", "reward.rnd.strength=0.1"]
SCHEDULES = ["algorithm.learning_rate_end=1e-5", "algorithm.schedule_samples=300"]
EACH = pytest.mark.parametrize("algorithm", ["ppo", "sac"])


def everything(folder: Path, algorithm: str) -> list[str]:
    """Imitation in every way, memory, novelty and schedules at once."""
    words = [*INLINE, *all_of_it(write_demo(folder / "right.demo"), algorithm), *REMEMBER, *CURIOUS, *SCHEDULES]
    if algorithm == "ppo":
        words += ["algorithm.clip_end=0.05", "algorithm.entropy_coef_end=0.001"]
    return words


@EACH
def test_a_run_with_everything_that_is_cut_off_again_and_again_ends_bit_for_bit_alike(tmp_path, algorithm):
    words = everything(tmp_path, algorithm)
    assert main([*words, f"run.dir={tmp_path / 'whole'}", "stop.samples=240"]) == 0
    cuts = [1, 41, 163]  # before any update, at SAC's first, and while cloning still weighs
    assert main([*words, f"run.dir={tmp_path / 'parts'}", f"stop.samples={cuts[0]}"]) == 0
    for samples in (*cuts[1:], 240):
        assert main([f"resume={tmp_path / 'parts'}", f"stop.samples={samples}"]) == 0
    whole = same_end(tmp_path / "whole", tmp_path / "parts").tensors
    assert int(whole["Basic-v0/updates"]) > 0
    assert whole["Basic-v0/weights/normalizer"].any()
    for signal_name in ("gail", "curiosity", "rnd"):
        assert any(name.startswith(f"Basic-v0/rewards/{signal_name}/") and whole[name].any() for name in whole)


LESSONS = "{lessons: [{value: 1, until: {above: 0.5, episodes: 7}}, " + ", ".join(
    f"{{value: {level}, earlier: 0.3, until: {{measure: passed, above: 1, episodes: 9, smoothing: 0.5}}}}"
    for level in (2, 3, 4)
)
LESSONS += ", {value: 5, back: {measure: passed, below: 9, episodes: 40}}]}"


def test_a_run_with_lessons_that_is_cut_off_again_and_again_ends_bit_for_bit_alike(tmp_path, capsys):
    parameters = [f"env.parameters.level={LESSONS}", "env.parameters.wind={sampler: gaussian, mean: 0, deviation: 1}"]
    words = ["env=gym", "env.id=tests.toys:Graded-v0", "env.workers=1", "run.mode=inline", *PPO, *parameters]
    assert main([*words, f"run.dir={tmp_path / 'whole'}", "stop.samples=301"]) == 0
    assert main([*words, f"run.dir={tmp_path / 'parts'}", "stop.samples=1"]) == 0
    for samples in (43, 150, 301):
        assert main([f"resume={tmp_path / 'parts'}", f"stop.samples={samples}"]) == 0
    state = same_end(tmp_path / "whole", tmp_path / "parts").state["curriculum"]
    assert state == newest(tmp_path / "parts").state["curriculum"]
    assert state["change"] > 4  # all lessons were taught, and one led back
    logs = [(tmp_path / run / "train.log").read_text() for run in ("whole", "parts")]
    begun = [[line.partition("Lesson")[2] for line in text.splitlines() if "Lesson" in line] for text in logs]
    assert begun[0] == begun[1]
    capsys.readouterr()
    assert main([f"resume={tmp_path / 'parts'}", "env.parameters.level={lessons: [{value: 1}]}"]) == 2
    assert "env.parameters.level.lessons has 1 lessons, and the run that goes on is in" in capsys.readouterr().err
    assert main([f"resume={tmp_path / 'parts'}", "env.parameters.level=2", "stop.samples=320"]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_run_that_was_killed_goes_on_bit_for_bit_from_its_last_checkpoint(tmp_path):
    words = [*INLINE, *SAC, *REMEMBER, *CURIOUS]
    parts = tmp_path / "parts"
    command = [sys.executable, "-m", "trainer", *words, f"run.dir={parts}", "checkpoint.every_seconds=0.05"]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": "."})
    store = CheckpointStore(parts / "checkpoints")
    while not any(int(path.name.rpartition("-")[2]) > 50 for path in store.all()):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    there = sum(each["samples"] for each in newest(parts).state["behaviors"].values())
    assert main([f"resume={parts}", f"stop.samples={there + 60}", "checkpoint.every_seconds=600"]) == 0
    assert main([*words, f"run.dir={tmp_path / 'whole'}", f"stop.samples={there + 60}"]) == 0
    same_end(tmp_path / "whole", parts)


def add_what_a_later_version_might(folder: Path) -> None:
    """Saves the newest checkpoint once more, with keys that nobody knows."""
    store = CheckpointStore(folder / "checkpoints")
    saved = store.load_latest()
    tensors = dict(saved.tensors)
    for name in list(tensors):
        tensors[f"{name.rpartition('/')[0]}/later"] = np.zeros(3)
    state = saved.state | {"later": 1}
    state["report"] |= {"later": {"x": 1}}
    state["collector"] |= {"later": []}
    state["collector"]["manager"] |= {"later": None}
    for channel in state["collector"]["channels"].values():
        channel["later"] = 2
    for behavior in state["behaviors"].values():
        behavior["later"] = 3
        behavior["spec"]["later"] = 4
        for observation in behavior["spec"]["observations"]:
            observation["later"] = 5
    snapshots = {name: Saved(replay) for name, replay in saved.replay.items()}
    store.save("later", tensors, state, snapshots)


class Saved:
    """A snapshot of what was loaded, with a field more in each file."""

    def __init__(self, replay):
        self.replay = replay
        self.head, self.chunk_rows = (int(replay.index[name]) for name in ("head", "chunk_rows"))
        self.indices = list(replay.files)

    def chunks(self, since=0):
        return ((number, arrays | {"later": np.zeros(1)}) for number, arrays in self.replay.chunks())

    def index(self):
        return self.replay.index | {"later": np.zeros(2)}


@EACH
def test_what_a_later_version_might_add_is_passed_over(tmp_path, algorithm):
    words = everything(tmp_path, algorithm)
    now, later = tmp_path / "now", tmp_path / "later"
    assert main([*words, f"run.dir={now}", "stop.samples=110"]) == 0
    shutil.copytree(now, later)
    add_what_a_later_version_might(later)
    for run in (now, later):
        assert main([f"resume={run}", "stop.samples=180"]) == 0
    same_end(now, later)
    assert main([*words, f"run.dir={tmp_path / 'new'}", f"init={later}", "stop.samples=3"]) == 0
    assert evaluate_main([f"run={later}", "episodes=1", "checkpoint=last"]) == 0


@EACH
def test_what_a_checkpoint_of_a_run_holds_is_known(tmp_path, algorithm):
    """Whoever adds a name here gives it a default for checkpoints without it, or raises the format's number."""
    words = PPO if algorithm == "ppo" else SAC
    assert main([*INLINE, *words, f"run.dir={tmp_path}", "stop.samples=70"]) == 0
    saved = newest(tmp_path)
    assert {name.removeprefix("Basic-v0/") for name in saved.tensors} == TENSORS | TENSORS_OF[algorithm]
    assert set(saved.state) == {"behaviors", "collector", "report", "curriculum", "self_play"}
    assert set(saved.state["behaviors"]["Basic-v0"]) == {"spec", "samples", "demos", "rows", "ended"}
    assert set(saved.state["collector"]) == {"manager", "channels"}
    assert set(saved.state["collector"]["manager"]) == {"begun", "actions"}
    assert set(saved.state["collector"]["channels"]["Basic-v0"]) == CHANNEL
    assert set(saved.state["report"]) == REPORT


REPORT = {
    "seconds",
    "supply",
    "episodes",
    "lessons",
    "lessons_of",
    "behaviors",
    "goal",
    "goals",
    "skipped",
    "diagnoses",
}
CHANNEL = {"rewards", "lengths", "memories", "writer", "actor", "open"}
TENSORS = {"updates", "random/torch", "published/policy", "published/version", "weights/policy", "weights/normalizer"}
TENSORS |= {"limiter/origin", "progress", "random/numpy", "weights/returns/extrinsic"}
TENSORS |= {f"returns/{name}" for name in ("numbers", "states")}
TENSORS |= {f"optimizer/{name}" for name in ("skips", "steps", "mean", "square")}
READER = ("carried", "cursor", "dropped", "pending")
TENSORS_OF = {
    "ppo": {"weights/value", "rate_factor", *(f"rollout/{name}" for name in READER)},
    "sac": {*(f"weights/{name}" for name in ("critics", "targets", "temperatures")), *(f"stream/{x}" for x in READER)},
}


@EACH
def test_what_is_owed_is_known_after_a_resume_that_filled_its_rows_anew(tmp_path, algorithm):
    words = [*INLINE, *(PPO if algorithm == "ppo" else SAC)]
    assert main([*words, f"run.dir={tmp_path / 'whole'}", "stop.samples=120", "checkpoint.replay=false"]) == 0
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    shutil.copytree(whole, parts)
    assert main([f"resume={whole}", "checkpoint.replay=true", "stop.samples=300"]) == 0
    for samples in (210, 300):
        assert main([f"resume={parts}", "checkpoint.replay=true", f"stop.samples={samples}"]) == 0
    same_end(whole, parts)


def test_a_disk_that_refuses_checkpoints_is_reported_and_ends_nothing(tmp_path, monkeypatch):
    write, numbers = checkpoint_module._write, [errno.ENOSPC, errno.EIO, errno.EROFS]
    left = list(numbers)

    def full(path, data):
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        return write(path, data)

    monkeypatch.setattr(checkpoint_module, "_write", full)
    assert main([*INLINE, *PPO, "checkpoint.every_seconds=1e-6", f"run.dir={tmp_path}", "stop.samples=30"]) == 0
    lines = [line for line in (tmp_path / "train.log").read_text().splitlines() if "could not be written" in line]
    assert len(lines) == 3
    assert all(os.strerror(number) in line and " WARNING " in line for line, number in zip(lines, numbers))
    assert all("The one before is kept" in line for line in lines)
    assert summary(tmp_path)["samples"] == newest(tmp_path).state["behaviors"]["Basic-v0"]["samples"] == 30


def test_a_last_checkpoint_that_is_refused_is_no_success(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "_write", full)
    assert main([*INLINE, *PPO, f"run.dir={tmp_path / 'full'}", "stop.samples=30"]) == 2
    monkeypatch.undo()
    monkeypatch.setattr("trainer.runtime.saver._finite", lambda learners: False)
    assert main([*INLINE, *PPO, f"run.dir={tmp_path / 'nan'}", "stop.samples=30"]) == 2
    error = capsys.readouterr().err
    for why, name in (("No space left on device", "full"), ("weights are not finite", "nan")):
        assert why in error
        assert "error: the last checkpoint could not be written, as said above, so what was learned since" in error
        assert f"resume={tmp_path / name} goes on from there" in error


def test_a_run_whose_folder_is_removed_makes_it_again(tmp_path, capsys, monkeypatch):
    save = CheckpointStore.save

    def removed(store, *args):
        monkeypatch.setattr(CheckpointStore, "save", save)
        path = save(store, *args)
        shutil.rmtree(tmp_path)
        return path

    monkeypatch.setattr(CheckpointStore, "save", removed)
    words = [*INLINE, *PPO, "checkpoint.every_seconds=1e-6", f"run.dir={tmp_path}"]
    assert main([*words, "stop.samples=30"]) == 0
    assert capsys.readouterr().err.count(f"The run's folder {tmp_path} was removed") == 1
    assert main([f"resume={tmp_path}", "stop.samples=60"]) == 0
    assert summary(tmp_path)["samples"] == 60


@pytest.mark.parametrize(
    ("goal", "stop", "words"),
    [
        ([], [], "stop.samples=150 is reached, it has 150 samples. To go on, give more: "),
        ([], ["stop.samples=200", "stop.seconds=0.01"], "stop.seconds=0.01 is reached, it has "),
        ([], ["stop.samples=200", "stop.reward=-1000"], "stop.reward=-1000.0 is reached, it has "),
        (["goal.metric=length", "goal.at_least=0", "goal.window_samples=1"], [], "it has reached its goal, length. A "),
    ],
)
def test_a_finished_run_says_so_and_how_to_go_on(tmp_path, capsys, goal, stop, words):
    short = ["env=gym", "env.id=tests.toys:Oracle-v0", "env.kwargs.length=1", "env.workers=1", "run.mode=inline"]
    assert main([*short, *PPO, f"run.dir={tmp_path}", *goal, "stop.samples=150"]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert main([f"resume={tmp_path}", *stop]) == 0
    assert capsys.readouterr().err.startswith(f"The run in {tmp_path} is finished: {words}")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@EACH
def test_there_may_be_more_samples_than_32_bits_can_count(tmp_path, algorithm):
    words = PPO if algorithm == "ppo" else SAC
    assert main([*INLINE, *words, f"run.dir={tmp_path}", "stop.samples=70", "checkpoint.replay=false"]) == 0
    saved = newest(tmp_path)
    many = 2**33 + 7
    saved.state["behaviors"]["Basic-v0"]["samples"] = many
    saved.state["collector"]["channels"] = {}
    counts = {"Basic-v0/updates": np.array(many), "Basic-v0/published/version": np.array(many + 1)}
    CheckpointStore(tmp_path / "checkpoints").save("many", saved.tensors | counts, saved.state)
    assert main([f"resume={tmp_path}", f"stop.samples={many + 80}"]) == 0
    assert newest(tmp_path).path.name == f"000003-{summary(tmp_path)['samples']}"
    assert many + 80 <= summary(tmp_path)["samples"] < many + 83  # three instances go on together
    assert summary(tmp_path)["updates"]["Basic-v0"] > many
    assert read_history(tmp_path).samples == summary(tmp_path)["samples"]


def damage(path: Path) -> None:
    data = (path / "tensors.safetensors").read_bytes()
    (path / "tensors.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_damaged_checkpoints_are_named_and_passed_over_by_every_command(tmp_path, capsys, caplog, monkeypatch):
    # Where an earlier test imported TensorBoard, its logging writes to a stream of that test, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    run, words = tmp_path / "run", [*INLINE, *PPO]

    def commands():
        yield lambda: main([f"resume={run}", "stop.samples=100"])  # which it has
        yield lambda: main([*words, f"run.dir={tmp_path / 'other'}", f"init={run}", "stop.samples=1"])
        yield lambda: evaluate_main([f"run={run}", "episodes=1"])

    assert main([*words, f"run.dir={run}", "stop.samples=100"]) == 0
    store = CheckpointStore(run / "checkpoints")
    older = newest(run)
    newer = store.save("more", older.tensors, older.state)
    best = store.save_best(older.tensors, older.state | {"mean": 0.5})
    damage(newer)
    damage(best)
    for command, damaged in zip(commands(), (newer, best, best)):
        caplog.clear()
        assert command() == 0
        assert f"checkpoint {damaged} is damaged: tensors.safetensors: it was changed" in caplog.text
    for path in store.all():
        if path != newer:
            damage(path)
    shutil.rmtree(tmp_path / "other")
    before = sorted(path.name for path in store.folder.iterdir())
    for command in commands():
        capsys.readouterr()
        assert command() == 2
        assert capsys.readouterr().err == f"error: {store.folder} holds no checkpoint that can be loaded\n"
    assert not (tmp_path / "other").exists()
    assert sorted(path.name for path in store.folder.iterdir()) == before
