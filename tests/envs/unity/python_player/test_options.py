"""The command line of our player, its launcher and its log."""

import os
import subprocess
import sys

import pytest

from envs.spec import UserError
from envs.unity.python_player import write_launcher
from envs.unity.python_player.__main__ import main
from envs.unity.python_player.options import At, parse


def test_short_names_are_our_games_and_all_else_is_an_id():
    assert parse(["env=basic"]).env.id == "envs.games:Basic-v0"
    assert parse(["env=bubble_shooter"]).behavior == "BubbleShooter-v0"
    assert parse(["env=CartPole-v1"]).env.id == "CartPole-v1"


def test_unitys_flags_are_taken_or_ignored_with_their_values():
    words = ["-screen-width", "80", "env=basic", "-nographics", "agents=3", "-logFile", "/a=b/log", "--mlagents-port"]
    options = parse([*words, "6000", "-batchmode", "-projectPath", "x"])
    assert (options.agents, options.port, options.log) == (3, 6000, "/a=b/log")
    assert parse(["env=basic"]).port == 5004


def test_the_last_of_a_word_counts():
    assert parse(["env=basic", "agents=2", "--mlagents-port", "1", "agents=3", "--mlagents-port", "2"]).agents == 3


def test_values_have_their_types():
    options = parse(["env=x:Y-v0", "kwargs.size=[1, 2]", "kwargs.name=a=b", "fault=die:100", "late=A:B:7", "delay=0.5"])
    assert options.env.kwargs == {"size": [1, 2], "name": "a=b"}
    assert (options.fault, options.late, options.delay) == (At("die", 100), At("A:B", 7), 0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No env was given"),
        (["env=basic", "agent=3"], r"Unknown key 'agent' \(=3\). Known are: env, .*agents"),
        (["env=basic", "agents=0"], "agents=0: it has to be a whole number, 1 or more"),
        (["env=basic", "agents=two"], "agents=two"),
        (["env=basic", "delay=nan"], "delay=nan: it has to be seconds, 0 or more"),
        (["env=basic", "layout=bhwc"], "hwc or chw"),
        (["env=basic", "fault=explode:3"], "one of die, hang"),
        (["env=basic", "fault=die"], "fault=<kind>:<message>"),
        (["env=basic", "fault=nan:2"], "the message is 3 or later"),
        (["env=basic", "late=Guest"], "late=<name>:<message>"),
        (["env=basic", "--mlagents-port", "web"], "--mlagents-port=web"),
        (["env=basic", "--mlagents-port"], "--mlagents-port="),
        (["env=basic", "kwargs.a=[1"], "not YAML"),
        (["basic"], "neither key=value nor a flag"),
    ],
)
def test_words_that_cannot_be_used_are_refused_by_name(words, message):
    with pytest.raises(UserError, match=message):
        parse(words)


@pytest.mark.parametrize("words", [["env=basic", "agents=0"], ["env=NoSuchGame-v0"], ["env=no_module:Game-v0"]])
def test_a_wrong_argument_is_one_line_and_status_2(words, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err


def test_a_launcher_is_an_executable_that_runs_from_any_folder_and_takes_more_words(tmp_path):
    launcher = write_launcher(tmp_path / "a folder" / "game.x86_64", ["env=basic"])
    assert launcher == tmp_path / "a folder" / "game.x86_64"
    log = tmp_path / "player.log"
    status = subprocess.run([launcher, "fault=die:0", "-logFile", log], cwd=tmp_path, check=False).returncode
    assert (status, log.read_text()) == (3, "The scripted fault: die.\n")


def test_a_launcher_passes_words_on_as_they_are(tmp_path):
    launcher = write_launcher(tmp_path / "game.x86_64", ["env=basic", "layout=it's $HOME"])
    done = subprocess.run([launcher], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: layout=it's $HOME: it is hwc or chw.\n")


def test_a_launcher_becomes_the_player_rather_than_its_parent(tmp_path):
    launcher = write_launcher(tmp_path / "game.x86_64", ["env=basic", "fault=hang:0"])
    with subprocess.Popen([launcher], stdout=subprocess.PIPE, text=True) as player:
        assert "hang" in player.stdout.readline()
        player.kill()
        assert player.stdout.read() == ""  # nobody else holds the pipe open


def test_a_bundle_is_written_for_macos(tmp_path):
    assert write_launcher(tmp_path / "Game.app", ["env=basic"]) == tmp_path / "Game.app"
    assert os.access(tmp_path / "Game.app" / "Contents" / "MacOS" / "Game", os.X_OK)


def test_launcher_on_the_command_line_writes_the_file_and_serves_nothing(tmp_path, capsys):
    assert main(["env=basic", f"launcher={tmp_path / 'game.x86_64'}", "agents=2"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "game.x86_64")
    assert "env=basic agents=2" in (tmp_path / "game.x86_64").read_text()


def test_a_player_imports_no_torch():
    code = (
        "import sys, envs.unity.python_player.__main__, envs.unity.python_player.serving; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_game_is_named_with_its_agents():
    options = parse(["game=duel", "teams.red=3"])
    assert (options.env.id, options.behavior) == ("envs.games.duel:Duel", "Duel")
    assert (options.env.behaviors, options.env.teams, options.env.groups) == ({"*": "Duel"}, {"red": 3}, {})
    options = parse(["game=a.b:C", "behaviors.red_*=Red", "groups.red_*=1", "kwargs.size=3"])
    assert (options.env.behaviors, options.env.groups) == ({"red_*": "Red"}, {"red_*": 1})
    assert options.env.kwargs == {"size": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["game=duel", "env=basic"], "env=basic and game=duel: give one of them"),
        (["game=duel", "late=A:3"], "late=A:3 is for env="),
        (["game=duel", "teams.red=x"], "teams.red=x: it has to be a whole number, 0 or more"),
    ],
)
def test_a_game_that_cannot_be_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        parse(words)
