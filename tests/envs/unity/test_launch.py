import hashlib
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


def registry(tmp_path, url, **more):
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
        "        - --level\n" + "".join(f"      {key}: {value}\n" for key, value in more.items())
    )
    return str(file)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of all builds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registered_build.cache_clear()
    return tmp_path / "cache" / "outstep" / "builds"


def zipped(tmp_path, entries):
    """An archive of these entries, (name, content, mode) each."""
    file = tmp_path / "toy.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return file


PROGRAM = ("toy/Toy.x86_64", "#!/bin/sh\n", 0o100644)


@linux
@pytest.mark.parametrize("form", [Path.as_uri, str])
def test_a_registry_file_names_a_build_that_is_unpacked_once_where_nobody_else_may_write(tmp_path, cache, form, capfd):
    file = zipped(tmp_path, [PROGRAM])
    manifest = registry(tmp_path, form(file))
    executable, arguments = registered_build("Toy", manifest)
    assert Path(executable).name == "Toy.x86_64"
    assert os.access(find_executable(executable), os.X_OK)
    assert arguments == ("--level",)
    assert cache.stat().st_mode & 0o777 == 0o700
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"Its SHA-256, which the registry does not say, is {digest}" in capfd.readouterr().err
    file.unlink()
    registered_build.cache_clear()
    assert registered_build("Toy", manifest) == (executable, arguments)
    assert len(list(cache.iterdir())) == 1


@linux
def test_a_build_must_be_what_the_registry_says(tmp_path, cache):
    file = zipped(tmp_path, [PROGRAM])
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    wrong = registry(tmp_path, file, linux_sha256="a" * 64)
    with pytest.raises(UserError, match=f"has the SHA-256 {right}, and the registry says aaa"):
        registered_build("Toy", wrong)
    assert not list(cache.iterdir())
    with pytest.raises(UserError, match="linux_sha256=123 must be 64 hexadecimal digits"):
        registered_build("Toy", registry(tmp_path, file, linux_sha256="123"))
    assert registered_build("Toy", registry(tmp_path, file, linux_sha256=right))


@linux
@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("big", bytes(20 * 2**20), 0)], "it would unpack 20,971,520 bytes from"),
        ([("../out", "x", 0)], "'../out' in it would be written outside"),
        ([("a/../../out", "x", 0)], "would be written outside"),
        ([("/etc/out", "x", 0)], "'/etc/out' in it would be written outside"),
        ([("a\\..\\out", "x", 0)], "would be written outside"),
        ([("link", "/etc", 0o120777)], "'link' in it is a link or a device"),
        ([("inside", "toy", 0o120777)], "is a link or a device"),
        ([("readme", "x", 0)], "holds no build for Linux"),
    ],
)
def test_an_archive_that_must_not_be_unpacked_leaves_nothing(tmp_path, cache, entries, words):
    manifest = registry(tmp_path, zipped(tmp_path, entries))
    with pytest.raises(UserError, match=words):
        registered_build("Toy", manifest)
    assert not (tmp_path / "out").exists()
    assert not list(cache.glob("**/out"))
    assert not list(cache.glob(".new-*"))


@linux
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/toy.zip", "is neither https nor a local file"),
        ("ftp://127.0.0.1:9/toy.zip", "is neither https nor a local file"),
        ("https://127.0.0.1:9/toy.zip", "cannot be downloaded: .*refused"),
        ("/no/such/file.zip", "cannot be downloaded: .*No such file"),
    ],
)
def test_a_build_comes_by_https_or_from_a_local_file(tmp_path, cache, url, words):
    with pytest.raises(UserError, match=words):
        registered_build("Toy", registry(tmp_path, url))


@linux
@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache: (cache.mkdir(parents=True), cache.chmod(0o770)),
        lambda cache: (cache.mkdir(parents=True), cache.parent.chmod(0o755)),
        lambda cache: (cache.parent.mkdir(parents=True, mode=0o700), cache.symlink_to("/tmp")),
    ],
)
def test_a_cache_that_others_may_write_to_is_refused(tmp_path, cache, spoil):
    spoil(cache)
    with pytest.raises(UserError, match=r"outstep.*, for builds, (belongs to user .* and has mode|must be a folder)"):
        registered_build("Toy", registry(tmp_path, zipped(tmp_path, [PROGRAM])))


def test_what_a_registry_lacks_is_refused_by_name(tmp_path):
    manifest = registry(tmp_path, (tmp_path / "missing.zip").as_uri())
    with pytest.raises(UserError, match=r"env\.registry=Tay: there is no such entry, but Toy"):
        registered_build("Tay", manifest)
    with pytest.raises(UserError, match=r"env\.manifest=.*there is no such file"):
        registered_build("Toy", str(tmp_path / "nothing.yaml"))
    for content in ("environments: [", "environments: [&a {b: 1}, *a]", "- 1", "x" * 2**20 + "y"):
        (tmp_path / "broken.yaml").write_text(content)
        with pytest.raises(UserError, match=r"env\.manifest=.*cannot be read"):
            registered_build("Toy", str(tmp_path / "broken.yaml"))
