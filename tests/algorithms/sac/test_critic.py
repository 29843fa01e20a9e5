import pytest
import torch

from algorithms.sac.critic import Critic
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec

OBSERVED = (ObservationSpec("o", (6,), "float32"),)
BRANCHED = BehaviorSpec("b", OBSERVED, 1, (3, 2))
NETWORK = NetworkSettings([32], joint_choices=0)
FEATURES, ACTIONS = torch.eye(6), torch.zeros(6, 1)


def critic_of(spec, dueling):
    torch.manual_seed(0)
    return Critic(spec, NETWORK, dueling)


def spread(values):
    """The largest difference between the choices of a branch."""
    return (values.max(-1).values - values.min(-1).values).max().item()


def test_dueling_critic_has_a_value_for_each_choice_of_hand_set_heads():
    critic = critic_of(BRANCHED, dueling=True)
    with torch.no_grad():
        critic.stack.weights[-1].zero_()
        # Of each branch what the state is worth, then the advantages of its three choices, weighted by a tenth.
        critic.stack.biases[-1].copy_(torch.tensor([5.0, 10, 20, 60, -1, 0, 10, -10])[None, :, None])
    values = critic(FEATURES, ACTIONS)
    assert values.shape == (2, 6, 2, 3)
    torch.testing.assert_close(values[1, 3], torch.tensor([[3.0, 4, 8], [-1, 0, -2]]))


def test_choices_of_a_dueling_critic_begin_alike_and_those_of_others_do_not():
    assert spread(critic_of(BRANCHED, dueling=True)(FEATURES, ACTIONS)) < 0.01
    assert spread(critic_of(BRANCHED, dueling=False)(FEATURES, ACTIONS)) > 0.2


def tried_and_not(dueling, target):
    """What a critic says of a choice once it has learned that it is worth `target`, and of one never tried."""
    critic = critic_of(BehaviorSpec("b", OBSERVED, 0, (2,)), dueling)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    for _ in range(500):
        tried = critic(FEATURES, ACTIONS[:, :0])[..., 0, 0]
        (gradient,) = torch.autograd.grad((tried - target).square().mean(), [tried])
        optimizer.zero_grad()
        tried.backward(gradient)
        optimizer.step()
    with torch.no_grad():
        return critic(FEATURES, ACTIONS[:, :0])[:, :, 0].mean((0, 1)).tolist()


@pytest.mark.parametrize("target", [2.0, -2.0])
def test_what_was_never_tried_keeps_up_with_what_was_in_a_dueling_critic_alone(target):
    tried, other = tried_and_not(True, target)
    assert tried == pytest.approx(target, rel=0.1)
    assert other == pytest.approx(target, rel=0.3)
    tried, other = tried_and_not(False, target)
    assert tried == pytest.approx(target, rel=0.1)
    assert abs(other) < 0.3 * abs(target)


def test_dueling_changes_nothing_where_there_are_no_branches():
    spec = BehaviorSpec("b", OBSERVED, 1)
    ours, plain = (critic_of(spec, dueling)(FEATURES, ACTIONS) for dueling in (True, False))
    assert torch.equal(ours, plain)
