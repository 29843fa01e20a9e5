"""Learning with a memory: sequences, their padding, and what they begin with."""

from itertools import chain

import numpy as np
import pytest
import torch

from algorithms.imitation.cloning import Cloning
from algorithms.networks.recurrent import RecurrentLayer
from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import Cell, CloningSettings, MemorySettings, NetworkSettings
from buffers.demonstrations import demonstration_rows
from buffers.replay import Replay
from buffers.rollout import cut
from envs.spec import Demonstration, UserError
from tests.trainer.wanderers import SPEC, Wanderers, network

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


def wandered(settings, turns=300, **rewards):
    """An algorithm and rows of agents that remember, made by its own policy."""
    make = PPO if isinstance(settings, PPOSettings) else SAC
    policy = make(SPEC, settings, Wanderers(_policy(settings)).rows, "cpu", 3).policy
    wanderers = Wanderers(policy)
    for _ in range(turns):
        wanderers.turn()
    return make(SPEC, settings, wanderers.rows, "cpu", 3, **rewards), wanderers


def _policy(settings):
    return Policy(SPEC, settings.network, settings.name)


def ppo_of(cell="lstm", **settings):
    return PPOSettings(network=network(cell), rollout_size=120, minibatch_size=30, epochs=2, gae_lambda=0.9, **settings)


def sac_of(cell="lstm", **settings):
    return SACSettings(**{"network": network(cell), "batch_size": 40, "n_step": 2, "discount": 0.9, **settings})


@CELLS
def test_a_sequence_at_once_is_one_step_after_another(cell):
    layer = RecurrentLayer(4, MemorySettings(Cell[cell], 5))
    features, before = torch.randn(12, 4), torch.randn(2, 10 if cell == "lstm" else 5)
    together, after = layer(features, before)
    for sequence in range(2):
        state = before[sequence : sequence + 1]
        for step in range(6):
            output, state = layer(features[6 * sequence + step][None], state)
            torch.testing.assert_close(output[0], together[6 * sequence + step])
        torch.testing.assert_close(state[0], after[sequence])


@CELLS
def test_a_sequence_of_fewer_steps_is_as_long_as_it_says(cell):
    layer = RecurrentLayer(4, MemorySettings(Cell[cell], 5))
    features, before = torch.randn(3 * 6, 4), torch.randn(3, 10 if cell == "lstm" else 5)
    lengths = torch.tensor([2, 6, 1])
    together, after = layer(features, before, lengths)
    for i, length in enumerate(lengths):
        outputs, state = layer(features[6 * i : 6 * i + length], before[i : i + 1])
        torch.testing.assert_close(together[6 * i : 6 * i + length], outputs)
        torch.testing.assert_close(after[i], state[0])


@CELLS
def test_a_new_recurrent_layer_keeps_what_it_holds_for_long(cell):
    settings = MemorySettings(Cell[cell], 16)
    layer = RecurrentLayer(4, settings)
    one, other = torch.zeros(1, 32 if cell == "lstm" else 16), torch.ones(1, 32 if cell == "lstm" else 16)
    blank = torch.zeros(8, 4)
    difference = (layer(blank, one)[1] - layer(blank, other)[1]).abs().max()
    assert difference > 0.05


def test_segments_are_cut_into_sequences_and_padded_with_their_first_rows():
    sequences = cut(np.array([2, 3, 8]), 2)
    assert sequences.rows.tolist() == [[0, 1], [2, 2], [3, 3], [4, 5], [6, 7], [8, 8]]
    assert sequences.loss_mask[:, 0].all()
    assert sequences.loss_mask[:, 1].tolist() == [True, False, False, True, True, False]
    assert cut(np.array([2, 3, 8]), 1).rows.ravel().tolist() == list(range(9))


@CELLS
def test_fresh_rollouts_are_exactly_as_likely_as_when_they_were_acted(cell):
    ppo, _ = wandered(ppo_of(cell))
    ppo.normalizer = _Nothing()
    rollout = ppo._reader.take(1, 1)
    batch = ppo._evaluate(rollout)
    loss_mask = batch.played.loss_mask.bool()
    assert 0 < (~loss_mask).sum() < len(loss_mask)
    assert loss_mask.sum() == 120
    np.testing.assert_allclose(batch.proximal_log_prob[loss_mask], rollout.log_prob, atol=1e-5)
    torch.testing.assert_close(batch.weights, torch.ones_like(batch.weights), atol=1e-4, rtol=0)


class _Nothing:
    def merge(self, rows): ...

    def publish(self, shift, scale): ...


def gradients_of(algorithm, batch):
    found = []
    algorithm.metrics()  # those of earlier steps
    step = algorithm.optimizers["all"].step
    algorithm.optimizers["all"].step = lambda *losses, **_: (found.extend(chain(*losses)), torch.tensor(True))[1]
    (algorithm.learn if isinstance(algorithm, SAC) else algorithm._learn)(batch)
    algorithm.optimizers["all"].step = step
    return torch.cat([part.flatten() for part in found]), algorithm.metrics()


def test_padding_changes_neither_losses_nor_gradients_of_ppo():
    ppo, _ = wandered(ppo_of())
    batch = ppo._evaluate(ppo._reader.take(1, 1))
    valid = batch.played.loss_mask.view(-1, 8).sum(1)
    short = (valid == 5).nonzero()[:1, 0]
    padded = batch.take(short)
    played = padded.played
    whole = padded._replace(
        played=played._replace(
            inputs=tuple(x[:5] for x in played.inputs), mask=played.mask[:5], continuous=played.continuous[:5],
            discrete=played.discrete[:5], loss_mask=None,
        ),
        **{name: getattr(padded, name)[:5] for name in padded._fields[1:]},
    )  # fmt: skip
    assert len(padded.targets) == 8
    (ours, losses), (theirs, expected) = gradients_of(ppo, padded), gradients_of(ppo, whole)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert losses == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_padding_changes_neither_losses_nor_gradients_of_sac(steps):
    noise = torch.randn(2, 100, 1)  # at steps, and at ends
    sac, _ = wandered(sac_of(n_step=steps))
    while True:
        drawn = sac._draw(sac._replay, 1)
        taken = int(drawn.valid.sum())
        if drawn.learned.any() and taken < drawn.learned.shape[1]:
            break
    places, length = taken + 1, taken
    whole = type(drawn)(
        drawn.numbers[:, : taken + steps], drawn.valid[:, : taken + steps - 1], drawn.learned[:, :length],
        tuple(x[:, : taken + steps] for x in drawn.observations), drawn.mask[:, : taken + steps],
        drawn.continuous[:, : taken + steps - 1], drawn.discrete[:, : taken + steps - 1],
        drawn.rewards[:, : taken + steps - 1], drawn.bootstrap[:, :length],
        drawn.bootstrap_discount[:, :length], drawn.end_discount[:, :length], drawn.recurrent_state,
    )  # fmt: skip
    assert places < drawn.mask.shape[1]
    batches = [sac._to_device(each) for each in (drawn, whole)]
    assert len(batches[1].returns) == length < len(batches[0].returns)
    batches = [batch._replace(noise=noise[:, : len(batch.returns)].flatten(0, 1)) for batch in batches]
    (ours, losses), (theirs, expected) = (gradients_of(sac, batch) for batch in batches)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert losses == pytest.approx(expected, abs=1e-6)


def test_every_step_is_learned_from_in_exactly_one_sequence():
    _, wanderers = wandered(sac_of())
    replay = Replay(wanderers.rows, 8, 3)
    wanderers.rows.guard = 0
    numbers = np.arange(1, wanderers.rows.head + 1)
    links, position = wanderers.rows.gather(numbers, ("next", "position"))
    heads = numbers[(links >= 0) & (position % 8 == 0)]
    seen, rng = {}, np.random.default_rng(0)
    for _ in range(100):
        batch = replay.sample(rng, 64, 1, 0.9)
        assert set(batch.numbers[:, 0].tolist()) <= set(heads.tolist())
        assert batch.learned.any(axis=1).all(), "what teaches nothing is drawn again"
        seen |= {row[0]: row[:-1][learned] for row, learned in zip(batch.numbers, batch.learned)}
    assert sorted(np.concatenate(list(seen.values())).tolist()) == numbers[links >= 0].tolist()


def test_returns_along_a_sequence_are_those_of_each_of_its_steps():
    sac, wanderers = wandered(sac_of(n_step=3))
    drawn = sac._draw(sac._replay, 30)
    batch = sac._to_device(drawn)
    links, rewards = wanderers.rows.gather(np.arange(wanderers.rows.head + 1), ("next", "reward"))
    returns, next_discount = batch.returns.view(30, -1), batch.next_discount.view(30, -1)
    checked = 0
    for sequence in range(30):
        for step in np.flatnonzero(drawn.learned[sequence]):
            number, total, weight = int(drawn.numbers[sequence, step]), 0.0, 1.0
            for _ in range(3):
                if number == 0 or links[number] < 0:
                    break
                total, weight, number = total + weight * rewards[number], weight * 0.9, int(links[number])
            assert returns[sequence, step] == pytest.approx(total, abs=1e-5)
            assert next_discount[sequence, step] == pytest.approx(weight if number else 0, abs=1e-6)
            assert drawn.numbers[sequence, drawn.bootstrap[sequence, step]] == number
            checked += 1
    assert checked > 100


def test_the_policy_of_sac_begins_a_sequence_with_what_the_actor_remembered_and_critics_with_nothing():
    sac, _ = wandered(sac_of())
    drawn = sac._draw(sac._replay, 20)
    assert drawn.recurrent_state.any(axis=1).sum() > 5
    batch = sac._to_device(drawn)
    inputs = sac.policy.prepare(batch.observations)
    features, _ = sac.policy.features(inputs, batch.recurrent_state)
    alone, _ = sac.policy.features([x[:1] for x in inputs], batch.recurrent_state[:1])
    torch.testing.assert_close(alone[0], features[0])
    critic = sac.networks.critic
    forgotten, _ = critic.features(inputs, torch.zeros_like(batch.recurrent_state))
    torch.testing.assert_close(critic.features(inputs, batch.recurrent_state)[0], forgotten)


@CELLS
@pytest.mark.parametrize("settings_of", [ppo_of, sac_of])
def test_continuation_from_a_saved_state_with_memory_is_exact(cell, settings_of):
    algorithm, wanderers = wandered(settings_of(cell), turns=600)
    algorithm.update()
    state = {key: value.clone() for key, value in algorithm.state_dict().items()}
    other = type(algorithm)(SPEC, algorithm.settings, wanderers.rows, "cpu", 9)
    other.load_state_dict(state)
    for _ in range(2):
        algorithm.update()
        other.update()
    mine, theirs = algorithm.state_dict(), other.state_dict()
    assert int(mine["updates"]) == 3
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


def test_cloning_learns_what_only_a_memory_tells():
    # What is right is what was seen two steps ago.
    rng, episodes = np.random.default_rng(0), []
    for _ in range(40):
        seen = rng.normal(size=(20, 3)).astype(np.float32)
        right = np.concatenate((np.zeros(2), seen[:-2, 0] > 0)).astype(np.int32)[:, None]
        nothing = np.zeros((20, 0), bool), np.zeros((20, 1), np.float32)
        final = (np.zeros((0, 3), np.float32),), np.zeros((0, 0), bool)
        episodes.append(Demonstration((seen,), *nothing, right, np.zeros(20, np.float32), True, *final))
    losses = {}
    for cell in ("none", "lstm"):
        torch.manual_seed(0)
        policy = _policy(sac_of(network=NetworkSettings([16], memory=MemorySettings(Cell[cell], 16, 8))))
        rows = demonstration_rows(SPEC, episodes, policy.state_size)
        cloning = Cloning(CloningSettings("x", updates_before=300, batch_size=128, learning_rate=1e-2), rows, policy, 0)
        while cloning.updates_left:
            cloning.update()
        losses[cell] = cloning.metrics()["cloning/loss"]
    assert losses["lstm"] < 0.6 * losses["none"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ppo_of(), None),
        (
            PPOSettings(network=network("gru", sequence_length=200), rollout_size=128, minibatch_size=64),
            "algorithm.network.memory.sequence_length=200 is longer than algorithm.rollout_size=128",
        ),
        (
            sac_of(network=network("lstm", sequence_length=5000), buffer_capacity=4000),
            "burn_in=3 and algorithm.n_step=2 make sequences of 5005 rows, longer than algorithm.buffer_capacity=4000",
        ),
        (sac_of(network=network("lstm", sequence_length=1)), "sequence_length=1 must be at least 2"),
        (sac_of(network=network("lstm", burn_in=-1)), "burn_in=-1 must be at least 0"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(settings, message):
    if message is None:
        settings.validate()
        return
    with pytest.raises(UserError) as refused:
        settings.validate()
    assert message in str(refused.value)


def test_a_buffer_that_holds_no_beginning_of_a_sequence_is_drawn_from_all_the_same():
    _, wanderers = wandered(sac_of())
    wanderers.rows.fields["position"][:] = 13
    batch = Replay(wanderers.rows, 8, 3).sample(np.random.default_rng(0), 20, 1, 0.9)
    assert not batch.learned[:, :3].any()
    assert batch.learned[:, 3:].any()
