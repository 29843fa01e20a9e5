"""Whole runs that learn from demonstrations."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from algorithms.imitation.cloning import Cloning
from tests.trainer.imitation.toys import STEPS, all_of_it, family, write_demo
from tests.trainer.tiny_runs import PPO, SAC, newest, same_end, summary
from trainer.__main__ import main
from trainer.checkpoint import CheckpointStore
from trainer.evaluate.__main__ import main as evaluate_main
from trainer.record.__main__ import main as record_main
from trainer.runtime.collector import Channel
from trainer.runtime.learner import Learner

BASIC = ["env=basic"]
INLINE = [*BASIC, "env.workers=1", "run.mode=inline"]
EACH = pytest.mark.parametrize("algorithm", ["ppo", "sac"])
MODES = pytest.mark.parametrize("mode", ["inline", "async"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("demos") / "right.demo"
    assert record_main(["env=basic", "player=bot", "episodes=3", f"to={file}"]) == 0
    return file


@EACH
def test_what_is_imitated_stands_in_tensorboard(tmp_path, demo, algorithm):
    assert main([*INLINE, *all_of_it(demo, algorithm), f"run.dir={tmp_path}", "stop.samples=200"]) == 0
    board = EventAccumulator(str(tmp_path)).Reload()
    tags = {tag for tag in board.Tags()["scalars"] if tag.split("/")[0] in ("gail", "cloning", "reward")}
    scores = {f"gail/{what}_{whose}" for what in ("accuracy", "score") for whose in ("demonstrated", "own")}
    gail = {"gail/loss", "gail/gradient_penalty", "gail/score_absorbing", *scores}
    skipped = {"gail/skipped_non_finite", "cloning/skipped_non_finite"}
    rewards = {f"reward/{name}{figure}" for name in ("extrinsic", "gail") for figure in ("", "_return_scale")}
    assert tags == gail | skipped | rewards | {"cloning/loss", "cloning/weight"}
    last = {tag: board.Scalars(tag)[-1].value for tag in tags}
    assert all(np.isfinite(value) for value in last.values())
    assert not any(last[tag] for tag in skipped)
    assert 0 < last["cloning/weight"] < 1
    assert all(0 <= last[tag] <= 1 for tag in scores)


def test_without_demonstrations_nothing_of_it_is_shown(tmp_path):
    assert main([*INLINE, *SAC, f"run.dir={tmp_path}", "stop.samples=80"]) == 0
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert "loss/critic" in tags
    shown = [tag for tag in tags if tag.startswith(("gail/", "cloning/", "reward/"))]
    assert shown == ["reward/extrinsic_return_scale"]


@EACH
def test_all_updates_before_come_before_the_first_action(tmp_path, demo, algorithm, monkeypatch):
    events = []
    update, act = Cloning.update, Channel.act
    monkeypatch.setattr(Cloning, "update", lambda self: (events.append("update"), update(self))[1])
    monkeypatch.setattr(Channel, "act", lambda self: (events.append("act"), act(self))[1])
    assert main([*INLINE, *all_of_it(demo, algorithm), f"run.dir={tmp_path}", "stop.samples=50"]) == 0
    assert events[:45] == ["update"] * 45
    assert set(events[45:]) == {"act"}


@MODES
def test_the_first_samples_are_played_as_was_demonstrated(tmp_path, demo, mode, monkeypatch):
    seen = []
    prepare = Learner.prepare
    monkeypatch.setattr(Learner, "prepare", lambda self: (seen.append(self.samples()), prepare(self))[1])
    cloning = [
        f"algorithm.cloning.demos={demo}",
        "algorithm.cloning.updates_before=400",
        "algorithm.cloning.anneal_samples=0",
    ]
    cloning += ["algorithm.cloning.learning_rate=0.01", "algorithm.rollout_size=1000"]
    arguments = [*BASIC, f"run.mode={mode}", *PPO, *cloning, f"run.dir={tmp_path}"]
    assert main([*arguments, f"stop.samples={6 * STEPS}"]) == 0
    assert len(seen) == 21
    assert not any(seen)
    # A drawn action is another one now and then: once in some 3,000.
    assert summary(tmp_path)["episode_reward_mean"] == pytest.approx(0.93, abs=0.05)


@MODES
def test_an_interrupt_while_cloning_keeps_what_was_cloned(tmp_path, demo, mode, monkeypatch):
    made = []
    update = Cloning.update

    def interrupted(self):
        made.append(0)
        if len(made) == 30:
            signal.raise_signal(signal.SIGINT)
        update(self)

    monkeypatch.setattr(Cloning, "update", interrupted)
    before = signal.getsignal(signal.SIGINT)
    words = [*BASIC, f"run.mode={mode}", *all_of_it(demo, "ppo"), "stop.samples=100"]
    assert main([*words, f"run.dir={tmp_path / 'parts'}"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not family()
    seen = summary(tmp_path / "parts")
    assert (seen["stopped_by"], seen["samples"]) == ("interrupted", 0)
    assert int(newest(tmp_path / "parts").tensors["Basic-v0/cloning/updates_left"]) == 45 - len(made) > 0
    assert main([f"resume={tmp_path / 'parts'}"]) == 0
    assert len(made) == 45
    if mode == "inline":
        assert main([*words, f"run.dir={tmp_path / 'whole'}"]) == 0
        whole, parts = newest(tmp_path / "whole").tensors, newest(tmp_path / "parts").tensors
        for name, tensor in whole.items():
            np.testing.assert_array_equal(tensor, parts[name], err_msg=name)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_resumed_run_whose_demonstrations_are_gone_is_refused_and_left_alone(tmp_path, demo, capsys):
    moved, run = tmp_path / "moved.demo", tmp_path / "run"
    shutil.copy(demo, moved)
    assert main([*INLINE, *all_of_it(moved, "sac"), f"run.dir={run}", "stop.samples=60"]) == 0
    moved.rename(tmp_path / "elsewhere.demo")
    before = files_of(run)
    capsys.readouterr()
    assert main([f"resume={run}", "stop.samples=100"]) == 2
    how = f"record it: outstep record env=... player=... to={moved}"
    assert capsys.readouterr().err == f"error: reward.gail.demos={moved} does not exist; {how}\n"
    assert files_of(run) == before
    # Playing needs none.
    assert evaluate_main([f"run={run}", "episodes=2"]) == 0


def warnings(folder: Path) -> list[str]:
    lines = (folder / "train.log").read_text(encoding="utf-8").splitlines()
    return [line.partition(" WARNING ")[2] for line in lines if "demonstrations have changed" in line]


@EACH
def test_inline_resume_is_bit_for_bit_also_if_the_demonstrations_have_moved(tmp_path, demo, algorithm, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    place, moved = tmp_path / "right.demo", tmp_path / "moved.demo"
    shutil.copy(demo, place)
    arguments = [*INLINE, *all_of_it(place, algorithm)]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=320"]) == 0
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=178"]) == 0  # between publications of SAC
    place.rename(moved)
    again = [word for word in all_of_it(Path("~/moved.demo"), algorithm) if ".demos=" in word]
    assert main([f"resume={tmp_path / 'parts'}", *again, "stop.samples=320"]) == 0
    whole = same_end(tmp_path / "whole", tmp_path / "parts")
    for name in ("updates", "rewards/gail/optimizer/steps"):
        assert int(whole.tensors[f"Basic-v0/{name}"]) > 0
    assert int(whole.tensors["Basic-v0/cloning/updates_left"]) == 0
    assert not warnings(tmp_path / "parts")


def test_a_run_whose_demonstrations_have_changed_says_so_once_and_goes_on(tmp_path, demo):
    file, run = tmp_path / "mine.demo", tmp_path / "run"
    shutil.copy(demo, file)
    assert main([*INLINE, *all_of_it(file, "sac"), f"run.dir={run}", "stop.samples=60"]) == 0
    write_demo(file, episodes=2)
    for samples in (80, 100):
        assert main([f"resume={run}", f"stop.samples={samples}"]) == 0
        (reported,) = warnings(run)
    assert reported.startswith(f"The run's demonstrations have changed ({file}): ")
    assert summary(run)["samples"] >= 100


def test_a_checkpoint_of_before_files_were_noted_is_resumed(tmp_path, demo, monkeypatch):
    assert main([*INLINE, *all_of_it(demo, "ppo"), f"run.dir={tmp_path}", "stop.samples=60"]) == 0
    load = CheckpointStore.load

    def older(self, path):
        checkpoint = load(self, path)
        assert checkpoint.state["behaviors"]["Basic-v0"].pop("demos")
        return checkpoint

    monkeypatch.setattr(CheckpointStore, "load", older)
    assert main([f"resume={tmp_path}", "stop.samples=100"]) == 0
    assert not warnings(tmp_path)


@EACH
def test_weights_that_imitated_go_on_without(tmp_path, demo, algorithm):
    moved = tmp_path / "moved.demo"
    shutil.copy(demo, moved)
    plain = [*INLINE, *(PPO if algorithm == "ppo" else SAC)]
    longer = ["run.log_seconds=1000", "stop.samples=150"]  # the best weights are the last
    assert main([*INLINE, *all_of_it(moved, algorithm), *longer, f"run.dir={tmp_path / 'a'}"]) == 0
    moved.unlink()
    assert main([*plain, f"run.dir={tmp_path / 'b'}", f"init={tmp_path / 'a'}", "stop.samples=3"]) == 0
    a, b = (newest(tmp_path / run).tensors for run in "ab")
    np.testing.assert_array_equal(a["Basic-v0/weights/policy"], b["Basic-v0/weights/policy"])
    assert not [name for name in b if "gail" in name or "cloning" in name]


def test_an_asynchronous_run_ends_as_planned(tmp_path, demo):
    # A step of the discriminator an update: a learner without a core to itself may make few of these.
    learns = "reward.gail.updates_per_sample=1"
    assert main([*BASIC, *all_of_it(demo, "sac"), learns, f"run.dir={tmp_path}", "stop.samples=1200"]) == 0
    seen = summary(tmp_path)
    assert 1200 <= seen["samples"] < 1210  # games wait for the first update from 1040 on
    assert seen["stopped_by"] == "samples"
    assert seen["updates"]["Basic-v0"] > 0
    tensors = newest(tmp_path).tensors
    assert int(tensors["Basic-v0/rewards/gail/optimizer/steps"]) > 0
    assert not family()
