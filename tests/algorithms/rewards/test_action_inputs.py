import torch

from algorithms.rewards.action_inputs import ActionInputs
from tests.algorithms.rewards.intrinsic_steps import CONTINUOUS, HYBRID, steps_of


def test_actions_are_seen_as_the_game_took_them():
    actions = ActionInputs(HYBRID)
    steps = steps_of(HYBRID, 2)._replace(
        mask=torch.tensor([[True, False, True, True, True], [True, True, True, True, True]]),
        continuous=torch.tensor([[0.5, 7.0], [0, -3]]),
        discrete=torch.tensor([[1, 0], [2, 1]]),
    )
    # Continuous, clipped; three choices and two. The first row's first choice was forbidden.
    assert actions(steps).tolist() == [[0.5, 1, 0, 0, 0, 1, 0], [0, -1, 0, 0, 1, 0, 1]]
    assert actions.features == 7


def test_without_a_mask_every_choice_counts_and_without_branches_there_are_none():
    steps = steps_of(HYBRID, 4)
    unmasked = steps._replace(mask=steps.mask[:, :0])
    assert torch.equal(ActionInputs(HYBRID)(unmasked), ActionInputs(HYBRID)(steps))
    assert ActionInputs(CONTINUOUS)(steps_of(CONTINUOUS, 4)).shape == (4, 2)
