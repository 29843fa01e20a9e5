"""Runs that learn from images with no setting touched, and runs of earlier versions that go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.tiny_runs import newest, rewrite_config
from trainer.__main__ import main

CAMERA = ["env=gym", "env.id=tests.toys:Camera-v0", "env.instances=1", "run.mode=inline", "run.picture_minutes=0"]
BITS = [*CAMERA, "env.kwargs.shape=[10,10,4]", "env.kwargs.dtype=bool", "env.kwargs.high=1"]
SMALL = ["algorithm=sac", "algorithm.start_samples=4", "algorithm.batch_size=4", "algorithm.network.hidden=[8]"]


@pytest.mark.parametrize(("algorithm", "shape"), [("ppo", "[84,84,3]"), ("sac", "[4,84,84]")])
def test_images_are_learned_from_with_no_key_set(
    algorithm: str, shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*CAMERA, f"algorithm={algorithm}", f"env.kwargs.shape={shape}", "stop.samples=5"]
    assert main([*words, f"run.dir={tmp_path / 'run'}"]) == 0
    assert "Behavior 'Camera-v0' keeps " in "".join(capsys.readouterr())


def test_a_run_of_an_earlier_version_goes_on_and_another_may_begin_with_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, old = tmp_path / "old", ["algorithm.network.flatten_below=20", "env.prepare_images=false"]
    assert main([*BITS, *SMALL, *old, f"run.dir={folder}", "stop.samples=8"]) == 0
    spec = newest(folder).state["behaviors"]["Camera-v0"]["spec"]
    assert spec["observations"][0]["dtype"] == "float32"
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if "flatten_below" not in line and "prepare_images" not in line]
    rewrite_config(folder, "".join(kept))
    assert main([f"resume={folder}", "stop.samples=12"]) == 0
    assert newest(folder).state["behaviors"]["Camera-v0"]["samples"] == 12

    new = [*BITS, *SMALL, f"run.dir={tmp_path / 'new'}", f"init={folder}", "stop.samples=2"]
    capsys.readouterr()
    assert main(new) == 2
    assert "uint8[10, 10, 4], not float32[10, 10, 4]; env.prepare_images=false" in capsys.readouterr().err
    assert main([*new, old[1]]) == 0
    assert "what does not fit begins anew: " in capsys.readouterr().err
    assert main([*new, *old, f"run.dir={tmp_path / 'newer'}"]) == 0
    assert "what does not fit" not in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*BITS, *SMALL, f"run.dir={tmp_path}", "stop.samples=8"]) == 0
    rows = newest(tmp_path).state["behaviors"]["Camera-v0"]["rows"]
    monkeypatch.setattr("algorithms.settings.OffPolicySettings.default_rows", lambda self, row_bytes: 500)
    assert main([f"resume={tmp_path}", "stop.samples=12"]) == 0
    assert newest(tmp_path).state["behaviors"]["Camera-v0"]["rows"] == rows
