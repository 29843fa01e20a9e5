"""The benchmark of learning: tiny updates of both sides, what is counted, and bad input."""

import json

import numpy as np
import pytest
import torch

from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from benchmarks import update_contenders, update_speed
from benchmarks.update_contenders import AGENTS, OurPPO, TheirPPO, TheirSAC, filled_rows, random_data

SAC = SACSettings(network=NetworkSettings([8, 8]), batch_size=4)
PPO = PPOSettings(network=NetworkSettings([8, 8]), rollout_size=32, minibatch_size=8, epochs=2)
TINY = ["--seconds", "0.02", "--rounds", "2"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(update_speed, "CASES", {"sac_64": SAC, "ppo_64": PPO})
    for module in (update_contenders, update_speed):
        monkeypatch.setattr(module, "REPLAY_ROWS", 400)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_ours_learns_in_both_cases_and_waits_for_nothing(monkeypatch, capsys):
    monkeypatch.setattr(update_contenders, "find_spec", lambda name: None)
    assert update_speed.main([*TINY, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(case["case"], case["device"], case["unit"]) for case in result["cases"]] == [
        ("sac_64", "cpu", "updates"),
        ("ppo_64", "cpu", "samples"),
    ]
    for case in result["cases"]:
        assert len(case["ours"]["rounds"]) == 2
        assert min(case["ours"]["rounds"]) <= case["ours"]["per_second"] <= max(case["ours"]["rounds"])
        assert case["ours"]["operations"] > 50
        assert case["ours"]["synchronisations"] == 0
        assert (case["theirs"], case["ratio"]) == (None, None)
    assert 0 < result["draw"]["least"] <= result["draw"]["median"] <= result["draw"]["most"]
    assert (result["rounds"], result["gpu"]) == (2, None)


@pytest.mark.extras
def test_both_sides_take_turns_and_are_compared_round_by_round(capsys):
    pytest.importorskip("stable_baselines3")
    assert update_speed.main([*TINY, "--cases", "sac_64", "ppo_64", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for case in result["cases"]:
        ratios = np.divide(case["ours"]["rounds"], case["theirs"]["rounds"])
        expected = [np.median(ratios), ratios.min(), ratios.max()]
        assert [case["ratio"][key] for key in ("median", "least", "most")] == pytest.approx(expected)
        assert case["theirs"]["operations"] > case["ours"]["operations"]
        assert case["theirs"]["synchronisations"] >= 4
    assert "draw" not in result


def test_text_shows_cases_and_dashes_where_the_library_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(update_contenders, "find_spec", lambda name: None)
    assert update_speed.main([*TINY, "--cases", "ppo_64", "draw"]) == 0
    text = capsys.readouterr().out
    case = next(line.split() for line in text.splitlines() if line.startswith("ppo_64"))
    assert case[:3] == ["ppo_64", "cpu", "samples"]
    assert case[4:8] == ["-"] * 4
    assert "draw: " in text


def test_every_ppo_update_finds_a_whole_fresh_rollout():
    ours = OurPPO(PPO, "cpu")
    for _ in range(20):
        ours.refill()
        assert ours.learn() == 32
    assert ours._ppo.dropped == 0
    # Fresh data: as likely as when it was acted.
    ours.refill()
    rollout = ours._ppo._reader.take(ours._ppo.updates + 1, 1)
    batch = ours._ppo._evaluate(rollout)
    newest = rollout.versions == ours._ppo.updates + 1
    assert newest.sum() >= 32 - AGENTS
    np.testing.assert_allclose(batch.weights[torch.from_numpy(newest)], 1, rtol=1e-5)


@pytest.mark.extras
def test_both_sides_hold_the_same_steps():
    pytest.importorskip("stable_baselines3")
    data = random_data(400 // AGENTS)
    ours, theirs = filled_rows(data), TheirSAC(SAC, "cpu")._model.replay_buffer
    assert theirs.full
    for mine, buffer in (("observation_0", theirs.observations), ("continuous", theirs.actions)):
        np.testing.assert_array_equal(ours.fields[mine][1:], buffer.reshape(400, -1))
    np.testing.assert_array_equal(ours.fields["reward"][1:], theirs.rewards.ravel())
    np.testing.assert_array_equal(ours.fields["terminated"][1:], theirs.dones.ravel())
    assert ours.fields["terminated"].any()
    linked = np.flatnonzero(ours.fields["next"] > 0)
    following = ours.fields["observation_0"][ours.fields["next"][linked]]
    np.testing.assert_array_equal(following, theirs.next_observations.reshape(400, -1)[linked - 1])


@pytest.mark.extras
def test_both_sides_have_networks_of_one_size():
    pytest.importorskip("stable_baselines3")
    ours, theirs = OurPPO(PPO, "cpu")._ppo, TheirPPO(PPO, "cpu")._model.policy
    assert sum(p.numel() for p in ours.parameters["all"]) == sum(p.numel() for p in theirs.parameters())
    ours, theirs = update_contenders.OurSAC(SAC, "cpu")._sac, TheirSAC(SAC, "cpu")._model
    for mine, other in ((ours.policy, theirs.actor), (ours.networks.critic, theirs.critic)):
        assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in other.parameters())


def test_device_memory_is_the_most_that_an_experiment_took(monkeypatch, capsys):
    peaks = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peaks.append(0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7 * 2**20)
    monkeypatch.setattr(update_speed, "_SHORT", ("run.mode=inline", "run.picture_minutes=0", "stop.samples=600"))
    assert update_speed.device_mib("basic_sac", "cpu") == 7
    assert peaks == [0]
    assert capsys.readouterr().out == ""
    with pytest.raises(RuntimeError, match="ended with status 2"):
        update_speed.device_mib("none_such", "cpu")


@pytest.mark.parametrize(("name", "value"), [("seconds", "0"), ("rounds", "-1")])
def test_nothing_to_measure_is_refused_by_name(name, value, capsys):
    assert update_speed.main([f"--{name}", value]) == 2
    assert capsys.readouterr().err == f"update_speed: --{name} {value} must be above 0\n"
