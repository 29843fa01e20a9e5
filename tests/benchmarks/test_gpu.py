"""The benchmark of a GPU: its plan, parts that fail, its page; and each part's code on the CPU, as small as it gets."""

import json

import pytest
import torch

from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from benchmarks import gpu, gpu_parts, pixel_game, training, update_contenders
from benchmarks.gpu import PARTS, SHORT, Part
from benchmarks.isolated import FailedError

SMALL = NetworkSettings([8])
SAC, PPO = SACSettings(network=SMALL, batch_size=4), PPOSettings(network=SMALL, rollout_size=16, minibatch_size=8)


@pytest.fixture
def found(monkeypatch):
    """A GPU, as far as `gpu.py` looks, and parts that need none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    toys = {name: Part(name, 60, f"try what {name}") for name in ("raises", "hangs", "right")}
    monkeypatch.setattr(gpu, "PARTS", toys)

    def rows(path, seconds):
        yield {"case": path, "rate": 1234.5, "n": None, SHORT: "it is slow" if path == "right" else None}
        if path != "right":
            raise FailedError(f"{path} and no more")

    monkeypatch.setattr(gpu, "results", rows)


def test_without_a_gpu_it_says_what_it_would_do(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == list(PARTS)
    assert lines[0] == "torch finds no GPU here. With one, this would:"
    assert lines[-1] == f"That takes {sum(part.seconds for part in PARTS.values()) / 60:.1f} minutes at most."
    assert gpu.main(["--json", "--parts", "card"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "gpu": None,
        "plan": {"card": {"about": PARTS["card"].about, "seconds": 20}},
    }


def test_all_parts_end_within_ten_minutes():
    assert sum(part.seconds for part in PARTS.values()) < 600
    assert all(callable(getattr(gpu_parts, part.path.partition(":")[2])) for part in PARTS.values())


def test_parts_that_fail_take_nothing_from_the_others(found, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    assert gpu.main(["--json", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert json.loads(out.read_text()) == result
    assert {name: (len(each["rows"]), each["failed"]) for name, each in result["parts"].items()} == {
        "raises": (1, "raises and no more"),
        "hangs": (1, "hangs and no more"),
        "right": (1, None),
    }
    assert result[SHORT] == ["raises failed: raises and no more", "hangs failed: hangs and no more", "it is slow"]
    assert "  case right, rate 1,234, n - <- it is slow\n" in printed.err


def test_what_falls_short_is_no_failure_and_is_printed_at_the_end(found, capsys):
    assert gpu.main(["--parts", "right"]) == 0
    assert capsys.readouterr().out.endswith("What falls short:\n  it is slow\n")


def test_the_page_has_a_table_for_each_part(found, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "PAGE", tmp_path / "gpu.md")
    gpu.main(["--parts", "right", "raises", "--write"])
    page = (tmp_path / "gpu.md").read_text()
    assert "## right\nTry what right.\n\n| case | rate | n |\n| --- | --- | --- |\n| right | 1,234 | - |\n" in page
    assert "## raises\nTry what raises.\n\n| case | rate | n |\n" in page
    assert "\nIt failed: raises and no more.\n" in page
    assert page.endswith("## What falls short\n- It is slow.\n- Raises failed: raises and no more.\n")


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(gpu_parts, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_parts, "SECONDS", 0.01)
    for name in ("REPLAY_ROWS", "IMAGE_ROWS"):
        monkeypatch.setattr(update_contenders, name, 80)
    monkeypatch.setattr(update_contenders, "_UPDATES", 2)
    pixels = update_contenders.PIXELS
    graphed = {"sac": (SAC, (17,), ()), "branches": (SAC, (17,), (3, 2)), "images": (SAC, pixels, ())}
    memory = MemorySettings(Cell["lstm"], 4, sequence_length=4, burn_in=0)
    graphed["memory"] = (SACSettings(network=NetworkSettings([8], memory=memory), batch_size=8), (17,), ())
    monkeypatch.setattr(gpu_parts, "GRAPHED", graphed | {"ppo": (PPO, (17,), (3, 2)), "ppo, images": (PPO, pixels, ())})
    monkeypatch.setattr(gpu_parts, "RATES", {"sac": (SAC, (17,)), "ppo": (PPO, (17,))})


def test_equal_updates_differ_by_nothing_and_what_is_not_captured_falls_short(on_cpu):
    rows = list(gpu_parts.graphs())
    assert [row["largest difference of a weight"] for row in rows] == [0.0] * 6
    assert [row[SHORT] for row in rows] == [f"{name} is not captured" for name in gpu_parts.GRAPHED]


def test_updates_that_differ_fall_short(on_cpu, monkeypatch):
    monkeypatch.setattr(gpu_parts, "GRAPHED", {"sac": gpu_parts.GRAPHED["sac"]})
    one = gpu_parts.ours
    sides = iter((one(SAC, "cpu"), one(SACSettings(network=SMALL, batch_size=5), "cpu")))
    monkeypatch.setattr(gpu_parts, "ours", lambda *given: next(sides))
    (row,) = gpu_parts.graphs()
    assert row["largest difference of a weight"] > 1e-4
    assert row[SHORT].startswith("sac differs from plain calls by ")


@pytest.mark.parametrize(("theirs", "ratio", "short"), [(1.0, 8.0, None), (4.0, 2.0, "sac is 2.00 x as fast as")])
def test_rates_are_compared_with_stable_baselines3s(on_cpu, monkeypatch, theirs, ratio, short):
    monkeypatch.setattr(gpu_parts, "find_spec", lambda name: True)
    monkeypatch.setattr(gpu_parts, "theirs", lambda *given: theirs)
    measured = iter([2.0, 8.0, theirs] * 2)
    monkeypatch.setattr(gpu_parts, "_learning_rate", lambda side: next(measured))
    row = next(gpu_parts.updates())
    assert (row["replayed over launched"], row["over Stable-Baselines3"]) == (4.0, ratio)
    assert row[SHORT] is None if short is None else row[SHORT].startswith(short)


def test_without_the_library_rates_are_measured_and_compared_with_nothing(on_cpu, monkeypatch):
    monkeypatch.setattr(gpu_parts, "find_spec", lambda name: None)
    rows = list(gpu_parts.updates())
    assert [(row["unit"], row["Stable-Baselines3/s"]) for row in rows] == [("updates", None), ("samples", None)]
    assert all(row["launched/s"] > 0 and row["replayed/s"] > 0 for row in rows)
    assert "not installed" in rows[0][SHORT]


@pytest.mark.extras
@pytest.mark.parametrize("settings", [SAC, PPO])
def test_both_sides_learn_from_images(on_cpu, settings):
    pytest.importorskip("stable_baselines3")
    for side in (make(settings, "cpu", update_contenders.PIXELS) for make in (gpu_parts.ours, gpu_parts.theirs)):
        side.refill()
        assert side.learn() > 0


def test_cpu_and_gpu_act_alike(on_cpu, monkeypatch):
    monkeypatch.setattr(gpu_parts, "ACTING", {"small": (NetworkSettings([8]), gpu_parts._NUMBERS)})
    rows = list(gpu_parts.acting())
    assert [row["agents"] for row in rows] == [1, 16, 128, 1024]
    assert all(row["largest difference of an action"] == 0 and row[SHORT] is None for row in rows)


@pytest.mark.parametrize(("mib", "short"), [(100.0, None), (5000.0, "one holds 5,000 MiB of the GPU, 4,096 are")])
def test_memory_is_limited(on_cpu, monkeypatch, mib, short):
    monkeypatch.setattr(gpu_parts, "MEMORY", {"one": ["+experiment=one"]})
    monkeypatch.setattr(gpu_parts, "run_mib", lambda overrides, device: 90.0)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: mib * 2**20)
    (row,) = gpu_parts.memory()
    assert (row["MiB of tensors"], row["MiB held"]) == (90.0, mib)
    assert row[SHORT] is None if short is None else row[SHORT].startswith(short)


@pytest.mark.parametrize(
    ("goal", "achieved", "short"),
    [
        (9.0, 1.0, None),
        (None, 1.0, "snoopy_sac does not reach its goal of bubbles in 50 s"),
        (
            None,
            0.5,
            "snoopy_sac does not reach its goal of bubbles in 50 s and makes 0.50 of its updates, 0.9 are asked",
        ),
    ],
)
def test_a_run_is_to_reach_its_goal_and_make_its_updates(on_cpu, monkeypatch, goal, achieved, short):
    summary = {"updates_achieved": {"a": achieved, "b": 1.0}, "goal_seconds": goal, "seconds": 50.0, "samples": 7}
    summary |= {"samples_per_second": 1.0, "updates": {"a": 3, "b": 4}, "acting": {"a": "numpy", "b": "torch"}}
    seen = []
    monkeypatch.setattr(training, "train", lambda overrides, folder: (seen.append(overrides), summary)[1])
    (row,) = gpu_parts.snoopy()
    assert (row["updates"], row["acting"], row[SHORT]) == (7, "numpy; torch", short)
    assert "+experiment=snoopy_sac" in seen[0]
    assert "device=cpu" in seen[0]


def test_the_game_of_pixels_pays_for_the_right_corner():
    game = pixel_game.FourCorners()
    image, _ = game.reset(seed=0)
    paid, ended = [], False
    while not ended:
        quarters = [image[0, row : row + 42, column : column + 42].any() for row in (0, 42) for column in (0, 42)]
        assert sum(quarters) == 1
        right = quarters.index(True)
        image, reward, ended, _, _ = game.step((right + len(paid) % 2) % 4)
        paid.append(reward)
    assert paid == [1.0, 0.0] * 8
