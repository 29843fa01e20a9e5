"""Runs from others: nothing that their folders name is run unasked, and whatever is in them is one message at most."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from envs.spec import UserError
from tests.trainer.report.written_runs import write_evaluation, written_run
from tests.trainer.test_bad_files import CARTPOLE, a_run
from tests.trainer.tiny_runs import rewrite_config
from trainer.config import signature
from trainer.config.compose import compose
from trainer.config.saved import as_written, load_config, read_config, save_config
from trainer.config.schema import EvaluateConfig, TrainConfig
from trainer.config.signature import key_file
from trainer.evaluate import __main__ as evaluate
from trainer.export import __main__ as export
from trainer.record import __main__ as record
from trainer.report import __main__ as report
from trainer.report.page import page_of

POSIX = pytest.mark.skipif(os.name != "posix", reason="owners and modes of files")
LINE = {
    "resume": (None, ["resume={}"]),
    "init": (None, ["env.id=CartPole-v1", "init={}"]),
    "evaluate": (evaluate.main, ["run={}"]),
    "evaluate another env": (evaluate.main, ["run={}", "env=basic"]),
    "evaluate a key": (evaluate.main, ["run={}", "env.instances=1"]),
    "export": (export.main, ["run={}", "to=a.onnx"]),
    "record": (record.main, ["player={}", "to=a.demo"]),
}
"""The command lines that run what a run's settings name."""


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of these tests alone: where the key lies."""
    file = tmp_path / "home" / "outstep" / "key"
    monkeypatch.setattr(signature, "key_file", lambda: file)
    return file


def by_another(folder: Path) -> Path:
    """The run in `folder`, as somebody else would have it whose key is not ours."""
    (folder / "signature").write_text("ab" * 32 + "\n")
    return folder


def naming(folder: Path, name: str) -> Path:
    """A run whose settings name code of the module `name` wherever they can."""
    run = a_run(folder, CARTPOLE)
    text = (run / "config.yaml").read_text()
    for before, after in {
        "  kind: gym\n": f"  kind: {name}:Kind\n",
        "  id: CartPole-v1\n": f"  id: {name}:CartPole-v1\n",
        "  wrappers: []\n": f"  wrappers: ['{name}:Wrapper']\n",
        "  - tensorboard\n": f"  - {name}:Writer\n",
        "    custom: null\n": f"    custom: {name}:Network\n",
    }.items():
        assert before in text
        text = text.replace(before, after)
    (run / "config.yaml").write_text(text)
    return run


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a module `evil_module` makes where it is imported."""
    executed = tmp_path / "executed"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "evil_module.py").write_text(f"open({str(executed)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path / "path")
    return executed


@pytest.mark.parametrize("command", LINE)
def test_nothing_that_anothers_run_names_is_run(refused, evil, tmp_path, command) -> None:
    run = naming(tmp_path / "run", "evil_module")
    main, words = LINE[command]
    reported = refused(*(word.format(run) for word in words), **({"main": main} if main else {}))
    assert "is not known to be yours" in reported
    assert "add trust=true" in reported
    assert "\n" not in reported
    assert not evil.exists()


def test_a_page_of_anothers_run_is_written_without_running_anything(evil, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    run = naming(tmp_path / "run", "evil_module")
    text = (run / "config.yaml").read_text()
    for before in ("name: null", "seed: 0", "  time_scale: 20.0"):
        assert before in text
        text = text.replace(before, before.partition(":")[0] + ": ${oc.env:TOKEN}")
    (run / "config.yaml").write_text(text)
    assert report.main([f"run={run}", f"to={tmp_path}/page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert not evil.exists()
    assert "s3cret" not in page
    assert "${oc.env:TOKEN}" in page


def test_what_is_trusted_is_taken_as_ones_own(refused, tmp_path) -> None:
    run = by_another(a_run(tmp_path / "run", CARTPOLE))
    assert load_config(run, trust=True).env.id == "CartPole-v1"
    config = compose([f"resume={run}", "trust=true"], TrainConfig, "config")
    assert (config.resume, config.trust) == (str(run), True)
    assert compose([f"run={run}", "env.instances=1", "trust=true"], EvaluateConfig, "evaluate").env.instances == 1
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "trust: true\n")
    assert "add trust=true" in refused(f"resume={run}")
    assert "add trust=true" in refused(f"resume={run}", "trust=false")


def test_a_run_of_ones_own_needs_nothing_also_where_it_was_moved_or_copied(tmp_path) -> None:
    run = a_run(tmp_path / "run")
    config = load_config(run)
    shutil.copytree(run, tmp_path / "copy")
    run.rename(tmp_path / "moved")
    assert load_config(tmp_path / "copy") == load_config(tmp_path / "moved") == config


def test_a_run_that_was_changed_or_never_signed_is_refused_by_what_it_is(tmp_path) -> None:
    run = a_run(tmp_path / "run")
    rewrite_config(run, (run / "config.yaml").read_text() + "# mine\n")
    assert load_config(run).seed == 0
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "# another's\n")
    with pytest.raises(UserError, match=r"its config.yaml was changed since it was signed.* add trust=true"):
        load_config(run)
    (run / "signature").unlink()
    with pytest.raises(UserError, match=r"from a version before signatures.* add trust=true"):
        load_config(run)


def test_a_signature_of_another_key_is_none(tmp_path, key) -> None:
    run = a_run(tmp_path / "run")
    key.write_bytes(b"x" * 32)
    with pytest.raises(UserError, match="its signature is of another key"):
        load_config(run)
    key.unlink()
    with pytest.raises(UserError, match=r"its signature cannot be checked .*key: No such file"):
        load_config(run)


@POSIX
def test_the_key_is_the_users_alone(tmp_path, key) -> None:
    run = a_run(tmp_path / "run")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [each.name for each in key.parent.iterdir()] == ["key"]
    key.chmod(0o640)
    with pytest.raises(UserError, match="key can be read or written by others: chmod 600"):
        load_config(run)


def _signs(file: Path, folder: Path) -> bytes:
    signature.key_file = lambda: file
    folder.mkdir()
    signature.sign(folder, b"config")
    return (folder / "signature").read_bytes()


def test_several_processes_at_once_make_one_key(tmp_path, key) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        signed = pool.starmap(_signs, [(key, tmp_path / str(number)) for number in range(12)])
    assert len(set(signed)) == 1
    assert [each.name for each in key.parent.iterdir()] == ["key"]


def test_a_run_begins_without_a_key_where_none_can_be_kept(tmp_path, key, caplog) -> None:
    (tmp_path / "home").write_text("a file in the place of the folder")
    run = a_run(tmp_path / "run")
    assert (run / "config.yaml").exists()
    assert not (run / "signature").exists()
    assert caplog.text.count("The run is not signed, as there is no key") == 1
    assert "will need trust=true" in caplog.text
    with pytest.raises(UserError, match="add trust=true"):
        load_config(run)
    assert load_config(run, trust=True).seed == 0


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="where settings lie on Linux")
def test_the_key_lies_among_the_users_settings(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given, place in {"": "/home/me/.config", "there": "/home/me/.config", "/there": "/there"}.items():
        monkeypatch.setenv("XDG_CONFIG_HOME", given)
        assert key_file() == Path(place, "outstep", "key")


def test_interpolations_are_saved_as_they_were_written_and_resolved_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("SEED", "7")
    words = ["env.id=A-v0", "env.kwargs.a=['${oc.env:TOKEN}',x]", "seed=${oc.env:SEED}", "run.dir=~/${oc.env:TOKEN}"]
    words += ["reward.gail.demos=${oc.env:TOKEN}", "behaviors.A.algorithm.cloning.demos=${reward.gail.demos}"]
    config = compose(words, TrainConfig, "config")
    assert (config.env.kwargs, config.seed, config.reward["gail"].demos) == ({"a": ["s3cret", "x"]}, 7, "s3cret")
    assert config.behaviors["A"].algorithm.cloning.demos == "s3cret"
    save_config(config, tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    assert "s3cret" not in text
    assert all(each in text for each in ("seed: ${oc.env:SEED}", "- ${oc.env:TOKEN}", "demos: ${reward.gail.demos}"))
    assert load_config(tmp_path) == config
    monkeypatch.setenv("TOKEN", "another")
    assert compose([f"resume={tmp_path}"], TrainConfig, "config").env.kwargs == {"a": ["another", "x"]}
    monkeypatch.delenv("TOKEN")
    shown = read_config(tmp_path)
    assert (shown.env.kwargs, shown.seed) == ({"a": ["${oc.env:TOKEN}", "x"]}, 0)
    assert as_written(shown)["seed"] == "${oc.env:SEED}"
    with pytest.raises(UserError, match=r"config.yaml: .*Environment variable 'TOKEN' not found"):
        load_config(tmp_path)


HOSTILE = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(f"b{i}: &a [*a,*a,*a,*a,*a,*a,*a,*a]\n" for i in range(9)),
    "alias of itself": "a: &a [*a]\n",
    "depth": "a: " + "[" * 5000,
    "digits": "seed: " + "9" * 10**5,
    "size": "a: " + "x" * 2**21,
    "binary": "\0\1\2",
    "tag": "seed: !!python/object/apply:os.getcwd []",
    "wrong tag": "seed: !!bool x",
    "list": "- 1",
    "nothing": "",
    "keys": "[1, 2]: 3",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_settings_are_one_short_message(tmp_path, name) -> None:
    (tmp_path / "config.yaml").write_text(HOSTILE[name])
    for read in (load_config, read_config, partial(load_config, trust=True)):
        with pytest.raises(UserError, match=r"config.yaml is damaged or of another version: ") as refused:
            read(tmp_path)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 800


IN_PLACE = {
    "nothing": lambda file: None,
    "a folder": Path.mkdir,
    "a link to itself": lambda file: file.symlink_to(file),
    "a pipe": lambda file: os.mkfifo(file),
}


@POSIX
@pytest.mark.parametrize("what", IN_PLACE)
def test_whatever_stands_in_place_of_settings_is_one_message(tmp_path, what) -> None:
    IN_PLACE[what](tmp_path / "config.yaml")
    for read in (load_config, read_config):
        with pytest.raises(UserError, match=r"is not a run's folder, it has no config.yaml"):
            read(tmp_path)


@pytest.mark.parametrize("command", [*LINE, "report"])
def test_every_command_refuses_a_folder_without_settings(refused, tmp_path, command) -> None:
    (tmp_path / "run" / "config.yaml").mkdir(parents=True)
    main, words = {**LINE, "report": (report.main, ["run={}"])}[command]
    reported = refused(*(word.format(tmp_path / "run") for word in words), **({"main": main} if main else {}))
    assert "is not a run's folder, it has no config.yaml" in reported


def test_a_setting_of_another_type_is_refused_by_name(tmp_path) -> None:
    settings = yaml.safe_load((a_run(tmp_path / "run") / "config.yaml").read_text())
    for key, value in settings.items():
        for wrong in ("x y", [1], {"a": 1}, 1.5):
            (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({**settings, key: wrong}))
            if isinstance(wrong, type(value)) or (key in ("resume", "init") and not isinstance(wrong, (list, dict))):
                continue
            with pytest.raises(UserError, match=r"config.yaml is damaged or of another version: .*" + key):
                load_config(tmp_path / "run", trust=True)


@POSIX
def test_a_page_holds_no_file_from_outside_of_the_folder_and_waits_for_no_pipe(tmp_path) -> None:
    run = written_run(tmp_path / "run")
    secret = tmp_path / "secret.gif"
    secret.write_bytes(b"GIF89a secret")
    evaluation = write_evaluation(run, [1.0], video=b"GIF89a mine")
    results = evaluation / "results.json"
    results.write_text(results.read_text().replace("episode-1.gif", "../../../../secret.gif"))
    (run / "pictures").mkdir()
    (run / "pictures" / "1.gif").symlink_to(secret)
    (run / "pictures" / "2.gif").symlink_to("2.gif")
    os.mkfifo(run / "in_use")
    (run / "summary.json").unlink()
    os.mkfifo(run / "summary.json")
    (run / ".aside-report.html").symlink_to(tmp_path / "victim")
    assert report.main([f"run={run}"]) == 0
    assert "data:image/gif" not in (run / "report.html").read_text()
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    "change",
    [
        ('"samples": 1000', '"samples": "x"'),
        ('"seconds": 3.0', '"seconds": 1e999'),
        ('"samples": 1000', '"samples": ["'),
    ],
)
def test_a_summary_that_holds_something_else_is_left_out(tmp_path, change) -> None:
    run = written_run(tmp_path / "run")
    (run / "summary.json").write_text((run / "summary.json").read_text().replace(*change))
    page_of(run)
    results = write_evaluation(run, [1.0]) / "results.json"
    results.write_text(results.read_text().replace('"reward": 1.0', '"reward": "1"'))
    assert "The best checkpoint" not in page_of(run)


def test_no_test_uses_the_key_of_whoever_runs_it() -> None:
    assert "outstep-tests-" in str(key_file())
    code = "from trainer.config.signature import key_file; print(key_file())"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == str(key_file())
