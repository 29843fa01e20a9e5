"""`outstep record` with bots and trained runs."""

import random
import signal

import numpy as np
import pytest

import trainer.record.__main__
from envs.seeding import episode_seed
from envs.unity.demo.reader import read_demo
from tests.envs.making import alive
from tests.trainer import bots
from trainer.config.compose import compose, save_config
from trainer.config.schema import TrainConfig
from trainer.demos.load import load_demonstrations
from trainer.record.__main__ import main
from trainer.record.episodes import Demonstrator, Quit, Restart, record_gym
from trainer.runtime.start import train


@pytest.fixture
def demo(tmp_path):
    return tmp_path / "demos" / "new.demo"


def test_a_bots_episodes_are_recorded_and_told(demo, capsys):
    assert main(["env=basic", "player=bot", "episodes=2", f"to={demo}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "episode 1 of 2  reward 0.93  length 7",
        "episode 2 of 2  reward 0.93  length 7",
        f"{demo}: 2 episodes, means: reward 0.93, length 7",
    ]
    read = read_demo(demo)
    assert (read.name, read.behavior, read.api_version) == ("new", "Basic-v0", 1)
    assert [(len(each.rewards), each.terminated) for each in read.episodes] == [(7, True)] * 2
    for each in read.episodes:
        assert each.observations[0].argmax(1).tolist() == list(range(10, 17))
        assert each.discrete.tolist() == [[2]] * 7
        np.testing.assert_allclose(each.rewards, [-0.01] * 6 + [0.99], rtol=1e-6)


def test_what_the_env_reports_is_told_and_boards_come_back_as_they_were(demo, capsys):
    import gymnasium

    from envs.gym.adapter import behavior_spec

    assert main(["env=bubble_shooter", "player=envs.games.bubbles.bot:flawless", "episodes=3", f"to={demo}"]) == 0
    reported = capsys.readouterr().out.splitlines()
    assert len(reported) == 4
    assert all("bubbles" in line and "solved 1" in line for line in reported)
    env = gymnasium.make("envs.games:BubbleShooter-v0")
    loaded = load_demonstrations(str(demo), "demos", behavior_spec(env, "BubbleShooter-v0"))
    for number, episode in enumerate(loaded, 1):
        observation, _ = env.reset(seed=episode_seed(2_000_000, 0, number))
        for step, action in enumerate(episode.discrete):
            for kept, right in zip(episode.observations, observation.values()):
                np.testing.assert_allclose(kept[step], right, rtol=1e-6)
            observation, reward, terminated, _, _ = env.step(action)
            assert reward == pytest.approx(episode.rewards[step])
        assert terminated
        assert episode.terminated


def test_the_seed_gives_the_same_episodes_again(tmp_path):
    files = [tmp_path / f"{name}.demo" for name in "abc"]
    for file, seed in zip(files, (5, 5, 6)):
        assert main(["env=bubble_shooter", "player=bot", f"seed={seed}", f"to={file}"]) == 0
    a, b, c = (read_demo(file).episodes[0].discrete.tolist() for file in files)
    assert a == b
    assert a != c


def test_nothing_is_left_that_the_env_has_started(demo, tmp_path):
    words = ["env=gym", "env.id=tests.toys:Parent-v0", "env.kwargs.unmarked=false", f"player={__name__}:Still"]
    assert main([*words, f"env.kwargs.pids={tmp_path}", f"to={demo}"]) == 0
    (game,) = (int(each.name) for each in tmp_path.iterdir() if each.name.isdigit())
    assert not alive(game)


class Still:
    """A bot that always takes the first action."""

    def __init__(self, env, rng):
        pass

    def __call__(self, observation):
        return 0


def test_a_factory_gets_the_env_and_a_generator(demo):
    bots.HEARD.clear()
    assert main(["env=basic", "player=tests.trainer.bots:right", "seed=4", f"to={demo}"]) == 0
    ((env, rng),) = bots.HEARD
    assert env.unwrapped.spec.id == "Basic-v0"
    assert rng.random() == random.Random(4).random()


def test_masks_and_clipped_actions_are_recorded(demo):
    env = [
        "env=gym",
        "env.id=tests.toys:Mixed-v0",
        "env.wrappers=[{path: gymnasium.wrappers.TimeLimit, kwargs: {max_episode_steps: 5}}]",
    ]
    assert main([*env, "player=tests.trainer.bots:any_allowed", f"to={demo}"]) == 0
    read = read_demo(demo)
    (episode,) = read.episodes
    assert read.forbidden == 0
    assert read.spec.masked
    assert episode.mask.shape == (5, 7)
    assert not episode.mask[:, :3].all(1).any()
    assert episode.mask[:, 3:].all()
    np.testing.assert_allclose(episode.continuous, [[-0.5, 1.0]] * 5)
    assert not episode.terminated
    assert len(episode.final_observations[0]) == len(episode.final_mask) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["env=basic"],
            "player is missing: give player=bot (the game's own), human, package.module:Name, ./",
        ),
        (["player=bot"], "env is missing: give it, for example env=bubble_shooter"),
        (["env=basic", "player=bott"], "player=bott is unknown: give player=bot"),
        (["env=basic", "player=bot", "episodes=0"], "episodes=0 must be at least 1"),
        (["env=basic", "player=bot", "seed=-1"], "seed=-1 must lie between 0 and 9223372036854775807"),
        (["env=basic", "player=bot", "fps=0"], "fps=0.0 must be above 0"),
        (["env=basic", "player=bot", "env.instances=0"], "env.instances=0 must be above 0"),
        (
            ["env=basic", "player=tests.trainer.nobody:right"],
            "player: tests.trainer.nobody:right cannot be imported (ModuleNotFoundError: No",
        ),
        (["env=basic", "player=tests.trainer.bots:left"], "player: tests.trainer.bots:left: module tests.trainer.bots"),
        (["env=basic", "player=tests.trainer.bots:NUMBER"], "player=tests.trainer.bots:NUMBER is int, not a function"),
        (
            ["env=basic", "player=tests.trainer.bots:no_bot"],
            "player=tests.trainer.bots:no_bot made int, not a function",
        ),
        (
            ["env=basic", "player=tests.trainer.bots:takes_one"],
            "player=tests.trainer.bots:takes_one cannot be called with",
        ),
        (
            ["env=basic", "player=tests.trainer.bots:wild"],
            "the player's action is not one of the environment's: the action",
        ),
        (["env=gym", "env.id=CartPole-v1", "player=bot"], "player=bot: CartPole-v1 has no bot of its own (make_bot)"),
        (["env=unity", "player=bot"], "player=bot plays Gymnasium environments. In Unity a person is recorded in the"),
        (["env=unity", "player=human"], "player=human plays Gymnasium environments."),
        (["env=basic", "player=tests"], "tests is not a run's folder, it has no config.yaml"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(demo, capsys, words, message):
    assert main([*words, f"to={demo}"]) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not out
    assert not demo.exists()
    assert not demo.parent.exists()


def test_a_target_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "old.demo").write_bytes(b"old")
    (tmp_path / "folder.demo").mkdir()
    cases = {
        "": "to is missing: give the file to write",
        "new.dem": "must end in .demo",
        "old.demo": "exists: name another file, or replace it with overwrite=true",
        "folder.demo": "is a folder: name a file",
        "old.demo/new.demo": "old.demo is a file, and should be a folder",
    }
    for name, message in cases.items():
        to = [f"to={tmp_path / name}"] if name else []
        assert main(["env=basic", "player=bot", *to]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "old.demo").read_bytes() == b"old"
    assert main(["env=basic", "player=bot", "overwrite=true", f"to={tmp_path / 'old.demo'}"]) == 0
    assert len(read_demo(tmp_path / "old.demo").episodes) == 1


def test_of_several_recordings_none_writes_over_another(demo, capsys):
    assert main(["--multirun", "env=basic", "player=bot", "seed=1,2", f"to={demo}"]) == 2
    assert capsys.readouterr().err == f"error: to={demo}: 2 runs need one each\n"
    assert not demo.exists()


def test_a_target_that_another_recording_is_writing_is_refused_before_anyone_plays(demo, capsys, monkeypatch):
    demo.parent.mkdir()
    aside = demo.with_name("new.demo.part")
    aside.write_bytes(b"another's")
    monkeypatch.setattr(trainer.record.__main__, "record_gym", None)
    for more in ([], ["overwrite=true"]):
        assert main(["env=basic", "player=bot", f"to={demo}", *more]) == 2
        reported = capsys.readouterr().err
        assert reported.startswith(
            f"error: {demo}: another recording to it is going on, or was killed, and has left {aside}: "
        )
        assert reported.count("\n") == 1
    assert aside.read_bytes() == b"another's"


class Interrupting(Demonstrator):
    """Goes right, and is interrupted in the given step of all it plays."""

    def __init__(self, at, number):
        super().__init__(lambda observation: 2)
        self.at, self.number, self.acted = at, number, 0

    def act(self, turn):
        self.acted += 1
        if self.acted == self.at:
            signal.raise_signal(self.number)
        return super().act(turn)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_recording_keeps_what_is_whole(demo, capsys, monkeypatch, number, status):
    monkeypatch.setattr(trainer.record.__main__, "_gym_player", lambda *_: Interrupting(17, number))
    before = signal.getsignal(number)
    assert main(["env=basic", "player=bot", "episodes=5", f"to={demo}"]) == status
    assert signal.getsignal(number) is before
    out = capsys.readouterr().out.splitlines()
    assert out[2] == f"interrupted after 2 of 5 episodes: {demo} holds the complete episodes"
    assert [len(each.rewards) for each in read_demo(demo).episodes] == [7, 7]


def test_without_a_whole_episode_the_file_stays_as_it_was(demo, capsys, monkeypatch):
    monkeypatch.setattr(trainer.record.__main__, "_gym_player", lambda *_: Interrupting(2, signal.SIGINT))
    assert main(["env=basic", "player=bot", "episodes=5", f"to={demo}"]) == 130
    assert capsys.readouterr().out.splitlines() == [f"interrupted after 0 of 5 episodes: {demo} was not written"]
    assert not demo.exists()


def test_a_second_interrupt_leaves_a_player_that_does_not_come_back(demo, capsys, monkeypatch):
    class Stuck(Interrupting):
        def act(self, turn):
            action = super().act(turn)
            if self.acted == self.at:
                signal.raise_signal(self.number)
            return action

    monkeypatch.setattr(trainer.record.__main__, "_gym_player", lambda *_: Stuck(9, signal.SIGINT))
    assert main(["env=basic", "player=bot", "episodes=5", f"to={demo}"]) == 130
    assert "interrupted after 1 of 5 episodes" in capsys.readouterr().out
    assert len(read_demo(demo).episodes) == 1


def test_an_episode_that_is_started_anew_is_the_same_and_counts_once(monkeypatch):
    import gymnasium

    from envs.gym.adapter import behavior_spec

    env = gymnasium.make("envs.games:BubbleShooter-v0")
    spec = behavior_spec(env, "BubbleShooter-v0")
    seen = []

    class Unsure(Demonstrator):
        def act(self, turn):
            seen.append((turn.episode, turn.rows[0].tobytes()))
            if len(seen) == 3:
                raise Restart
            if turn.episode == 2:
                raise Quit
            return super().act(turn)

    bot = env.unwrapped.make_bot(random.Random(0))
    episodes = list(record_gym(env, spec, Unsure(bot), 5, 0, lambda: False))
    assert len(episodes) == 1
    assert seen[3] == seen[0]
    assert len(episodes[0].demonstration.rewards) == len(seen) - 3 - 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ["env=basic", "algorithm.network.hidden=[8]", "algorithm.buffer_memory_mib=4", "run.mode=inline"]
    config = compose([*words, "env.instances=2", "stop.samples=300"], TrainConfig, "config")
    save_config(config, folder)
    train(config, folder)
    return folder


def test_a_trained_run_plays_its_own_env(run, demo, capsys):
    assert main([f"player={run}", "episodes=3", f"to={demo}"]) == 0
    assert len(read_demo(demo).episodes) == 3
    drawn = [each.discrete.tolist() for each in read_demo(demo).episodes]
    assert main([f"player={run}", "episodes=3", "deterministic=true", "overwrite=true", f"to={demo}"]) == 0
    likeliest = [each.discrete.tolist() for each in read_demo(demo).episodes]
    assert drawn[0] != drawn[1]
    assert likeliest[0] == likeliest[1]


def test_single_keys_of_a_runs_env_may_be_given(run, demo, capsys):
    assert main([f"player={run}", "env.instances=0", f"to={demo}"]) == 2
    assert capsys.readouterr().err == "error: env.instances=0 must be above 0 and at most 65536\n"
    assert main(["player=bot", "env.instances=4", f"to={demo}"]) == 2
    assert "env is missing" in capsys.readouterr().err


def test_a_run_of_another_behavior_is_refused(run, demo, capsys):
    assert main([f"player={run}", "env=bubble_shooter", f"to={demo}"]) == 2
    assert "holds no behavior 'BubbleShooter-v0'; it has Basic-v0" in capsys.readouterr().err
    assert not demo.parent.exists()


def test_help_says_how(capsys):
    assert main(["--help"]) == 0
    assert "outstep record env=bubble_shooter player=human" in capsys.readouterr().out
