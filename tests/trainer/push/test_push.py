"""`outstep push`: the folder for a model hub, and its upload by the hub's own library to a server of ours."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.trainer.tiny_runs import PPO
from trainer.__main__ import main as train
from trainer.evaluate.results import Evaluation, PlayedEpisode, save_evaluation
from trainer.push.__main__ import main
from trainer.push.public import public
from trainer.saved_policy import load_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    os.environ["OUTSTEP_TEST_SECRET"] = "4"
    words = ["env=basic", "env.workers=1", "run.mode=inline", "stop.samples=200", f"run.dir={folder}"]
    assert train([*PPO, *words, "algorithm.epochs=${oc.env:OUTSTEP_TEST_SECRET}"]) == 0
    return folder


@pytest.fixture
def evaluated(run):
    name = load_checkpoint(str(run)).path.name
    episodes = [PlayedEpisode("Basic-v0", float(r), 5, {"solved": 1.0}, f"e{r}.gif") for r in (4, 0, 2)]
    videos = {f"e{r}.gif": run / f"made{r}" for r in (4, 0, 2)}
    for name_of, file in videos.items():
        file.write_bytes(name_of.encode())
    save_evaluation(Evaluation(name, 200, True, 1, "2026-01-01T00:00:00+00:00", {}, episodes), run, videos)
    return run


def parts_of(card: Path) -> tuple[dict, str]:
    _, front, text = card.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_folder_holds_model_card_settings_and_video(evaluated, tmp_path, capsys):
    to = tmp_path / "new" / "hub"
    assert main([f"run={evaluated}", f"to={to}"]) == 0
    names = ["Basic-v0.onnx", "README.md", "config.yaml", "replay.gif"]
    assert capsys.readouterr().out == f"{to}: {', '.join(names)}\n"
    assert sorted(each.name for each in to.iterdir()) == names
    assert (to / "replay.gif").read_bytes() == b"e2.gif"  # the episode in the middle
    front, text = parts_of(to / "README.md")
    assert front["library_name"] == "outstep"
    assert {"reinforcement-learning", "ppo", "Basic-v0"} <= set(front["tags"])
    (result,) = front["model-index"][0]["results"]
    assert (result["dataset"]["name"], result["metrics"][0]["value"]) == ("Basic-v0", "2.00 +/- 1.63")
    assert "| `Basic-v0` | likeliest | `reward` | 2 ± 1.6 | 0 | 4 | 3 |" in text
    assert "| `algorithm.rollout_size` | `64` |" in text
    assert "reward.gail" not in text  # a default
    settings = yaml.safe_load((to / "config.yaml").read_text())
    assert settings["algorithm"]["epochs"] == "${oc.env:OUTSTEP_TEST_SECRET}"
    assert "dir" not in settings["run"]
    assert str(tmp_path) not in "".join(each.read_text() for each in (to / "README.md", to / "config.yaml"))


def test_the_program_of_the_card_runs(evaluated, tmp_path):
    assert main([f"run={evaluated}", f"to={tmp_path / 'hub'}"]) == 0
    code = re.search(r"```python\n(.*?)```", (tmp_path / "hub/README.md").read_text(), re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "hub", capture_output=True, text=True, check=True
    )
    assert re.match(r"\[array\(\[\[\d\]\]", done.stdout)


def test_a_push_replaces_an_earlier_one_and_nothing_else(run, tmp_path, capsys):
    to = tmp_path / "hub"
    to.mkdir()
    (to / "Old.onnx").write_bytes(b"")
    assert main([f"run={run}", f"to={to}"]) == 0
    assert not (to / "Old.onnx").exists()
    (to / "thesis.txt").write_text("mine")
    assert main([f"run={run}", f"to={to}"]) == 2
    assert "holds thesis.txt, which is not of a model: name a folder of its own" in capsys.readouterr().err


def test_without_an_evaluation_the_card_says_so(run, tmp_path, capsys):
    assert main([f"run={run}", f"to={tmp_path / 'hub'}", "checkpoint=last"]) == 0
    out = capsys.readouterr().out
    front, text = parts_of(tmp_path / "hub/README.md")
    if "The card has no scores" in out:  # the newest checkpoint is not the best, which others have evaluated
        assert "model-index" not in front
        assert "It was not evaluated." in text


def test_secrets_are_left_out():
    settings = {
        "run": {"dir": "/x", "overrides": ["env.kwargs.api_key=abc", "stop.samples=4"]},
        "env": {"kwargs": {"api_key": "abc", "token": "${oc.env:TOKEN}", "password": 7, "tokens": None}},
        "path": f"{Path.home()}/games/a",
    }
    shown, left_out = public(settings)
    assert shown == {
        "run": {"overrides": ["env.kwargs.api_key=(left out)", "stop.samples=4"]},
        "env": {
            "kwargs": {"api_key": "(left out)", "token": "${oc.env:TOKEN}", "password": "(left out)", "tokens": None}
        },
        "path": "~/games/a",
    }
    assert left_out == ["env.kwargs.api_key", "env.kwargs.password"]


def test_what_cannot_be_pushed_is_one_message(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    refused = {
        (f"run={run}", f"to={tmp_path / 'file'}"): "is a file: name a folder",
        (f"run={run}", f"to={tmp_path / 'new'}", "repo=name"): "must be a user or an organization, and a name",
        (f"run={run}", f"to={tmp_path / 'new'}", "repo=a/../b"): "must be a user or an organization, and a name",
        (f"run={run}",): "to is missing: give it, for example to=hub/game",
        (f"run={tmp_path}", f"to={tmp_path / 'new'}"): "is not a run's folder",
    }
    monkeypatch.setattr("trainer.push.__main__.find_spec", lambda name: None)
    refused[f"run={run}", f"to={tmp_path / 'new'}", "repo=a/b"] = "needs huggingface_hub: pip install 'outstep[hub]'"
    for words, message in refused.items():
        assert main(list(words)) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


class Hub(BaseHTTPRequestHandler):
    """Stands in for the hub: takes a repository, and the files of a commit."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        here = f"http://127.0.0.1:{self.server.server_port}/user/pole"
        if self.path == "/api/repos/create":
            self.reply({"url": here})
        elif self.path.endswith("/preupload/main"):
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
            self.reply({"files": files})
        elif self.path.endswith("/commit/main"):
            self.reply({"commitUrl": f"{here}/commit/1", "commitOid": "1" * 40})
        else:
            self.reply({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization"), b""))
        self.reply({"id": "user/pole", "siblings": [], "sha": "0" * 40})

    def reply(self, content: dict) -> None:
        data = json.dumps(content if self.server.open else {"error": "Invalid token"}).encode()
        self.send_response(200 if self.server.open else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


@pytest.mark.extras
@pytest.mark.parametrize("welcome", [True, False])
def test_the_hubs_own_library_uploads_the_folder(evaluated, tmp_path, welcome):
    hub_card = pytest.importorskip("huggingface_hub").ModelCard
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.open = [], welcome
    threading.Thread(target=server.serve_forever, daemon=True).start()
    to = tmp_path / "hub"
    surroundings = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_TOKEN": "hf_secret",
        "HF_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "trainer.push", f"run={evaluated}", f"to={to}", "repo=user/pole", "private=true"]
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=200)
    finally:
        server.shutdown()
        server.server_close()
    created = json.loads(next(body for path, _, body in server.asked if path == "/api/repos/create"))
    assert (created["name"], created["organization"]) == ("pole", "user")
    assert "hf_secret" not in done.stdout + done.stderr
    assert (to / "README.md").exists()
    if not welcome:
        assert done.returncode == 2
        assert done.stderr.startswith("error: repo=user/pole: the upload failed (")
        assert done.stderr.rstrip().count("\n") == 0
        assert f"{to} is written: log in by `hf auth login`" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"http://127.0.0.1:{server.server_port}/user/pole"
    path = "/api/models/user/pole/commit/main"
    auth, commit = next((auth, body) for asked, auth, body in server.asked if asked == path)
    assert auth == "Bearer hf_secret"
    lines = [json.loads(line) for line in commit.splitlines()]
    sent = {
        each["value"]["path"]: base64.b64decode(each["value"]["content"]) for each in lines if each["key"] == "file"
    }
    assert sent == {each.name: each.read_bytes() for each in to.iterdir()}
    card = hub_card.load(to / "README.md")
    assert card.data.library_name == "outstep"
    assert card.data.eval_results[0].metric_value == "2.00 +/- 1.63"
