import os
import sys
import zipfile
from pathlib import Path

import pytest

from envs.spec import UserError
from envs.unity.config import UnityConfig
from envs.unity.launch import find_executable, registered_build

linux = pytest.mark.skipif(sys.platform != "linux", reason="what is refused depends on the system")


@pytest.fixture
def build(tmp_path):
    file = tmp_path / "Game.x86_64"
    file.write_bytes(b"#!/bin/sh\n")
    file.chmod(0o755)
    return file


@linux
@pytest.mark.parametrize("name", ["Game.x86_64", "Game"])
def test_a_build_is_found_with_or_without_its_ending(build, name, monkeypatch):
    assert find_executable(str(build.with_name(name))) == str(build)
    monkeypatch.chdir(build.parent)
    assert find_executable(name) == str(build)


@linux
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, r"does not exist \(seen from"),
        (lambda file: file.mkdir(), "is a folder: name the build's executable"),
        (lambda file: (file.write_bytes(b"#!/bin/sh\n"), file.chmod(0o644)), "may not be executed: chmod"),
        (lambda file: (file.write_bytes(b"MZ\x90\0"), file.chmod(0o755)), "is a build for Windows, and this is Linux"),
        (lambda file: (file.write_bytes(b"\xcf\xfa\xed\xfe"), file.chmod(0o755)), "is a build for macOS"),
        (lambda file: (file.write_bytes(b"hello"), file.chmod(0o755)), "is no program"),
    ],
)
def test_a_file_that_cannot_run_here_is_refused_by_name(tmp_path, make, message):
    file = tmp_path / "Thing"
    make(file)
    with pytest.raises(UserError, match=message) as refusal:
        UnityConfig(executable=str(file)).check()
    assert f"env.executable={file}" in str(refusal.value)


@linux
def test_a_bundle_for_macos_is_named_as_such(tmp_path):
    (tmp_path / "Game.app").mkdir()
    with pytest.raises(UserError, match="is a build for macOS"):
        find_executable(str(tmp_path / "Game.app"))


def test_several_editors_are_refused():
    with pytest.raises(UserError, match=r"env\.instances=2, but the Unity Editor plays one game"):
        UnityConfig(instances=2).check()


def test_the_command_line_has_port_log_and_the_users_arguments(build, tmp_path):
    log = tmp_path / "log"
    env = UnityConfig(executable=str(build), args=["--level", "3"], no_graphics=True)
    assert env.command(1234, log)[1:] == [
        *("-nographics", "-batchmode", "--mlagents-port", "1234", "-logFile", str(log), "--level", "3")
    ]
    own_log = UnityConfig(executable=str(build), args=["-logfile", "mine"])
    assert own_log.command(1, log)[1:] == ["--mlagents-port", "1", "-logfile", "mine"]
    assert UnityConfig().command(1, log) is None


def registry(tmp_path, url):
    """A registry file with one entry."""
    file = tmp_path / "registry.yaml"
    file.write_text(
        "environments:\n"
        "  - Toy:\n"
        "      expected_reward: 1.0\n"
        "      description: a toy\n"
        f"      linux_url: {url}\n"
        "      darwin_url: null\n"
        "      win_url: null\n"
        "      additional_args:\n"
        "        - --level\n"
    )
    return str(file)


@linux
def test_a_registry_file_names_a_build_that_is_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        entry = zipfile.ZipInfo("toy/Toy.x86_64")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, "#!/bin/sh\n")
    manifest = registry(tmp_path, (tmp_path / "toy.zip").as_uri())
    executable, arguments = registered_build("Toy", manifest)
    assert Path(executable).name == "Toy.x86_64"
    assert os.access(find_executable(executable), os.X_OK)
    assert arguments == ("--level",)


def test_what_a_registry_lacks_is_refused_by_name(tmp_path):
    manifest = registry(tmp_path, (tmp_path / "missing.zip").as_uri())
    with pytest.raises(UserError, match=r"env\.registry=Tay: there is no such entry, but Toy"):
        registered_build("Tay", manifest)
    with pytest.raises(UserError, match=r"env\.manifest=.*there is no such file"):
        registered_build("Toy", str(tmp_path / "nothing.yaml"))
    (tmp_path / "broken.yaml").write_text("environments: [")
    with pytest.raises(UserError, match=r"env\.manifest=.*cannot be read"):
        registered_build("Toy", str(tmp_path / "broken.yaml"))
