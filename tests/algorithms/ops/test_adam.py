import pytest
import torch
from torch import nn

from algorithms.ops import adam as flat
from algorithms.ops.adam import FlatAdam, place


@pytest.fixture(params=["torch's kernel", "plain operations"], autouse=True)
def kernel(request, monkeypatch):
    fuses = flat._can_fuse(torch.device("cpu"))
    if request.param == "plain operations":
        monkeypatch.setattr(flat, "_can_fuse", lambda device: False)
    elif not fuses:
        pytest.skip("this torch has none for the CPU")


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def placed(module):
    vector = torch.empty(sum(p.numel() for p in module.parameters()))
    place(module.parameters(), vector)
    return vector


def gradients(module, i):
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(i))
    return torch.autograd.grad((module(x) - 3).square().mean(), list(module.parameters()))


def test_placed_modules_are_views_of_the_vector_and_keep_their_values():
    module, same = network(), network()
    vector = placed(module)
    for ours, theirs in zip(module.parameters(), same.parameters()):
        assert torch.equal(ours, theirs)
    vector.zero_()
    assert all(not p.any() for p in module.parameters())


def test_vector_of_the_wrong_size_is_an_error():
    with pytest.raises(ValueError, match="vector of 5"):
        place([torch.zeros(3)], torch.zeros(5))


@pytest.mark.parametrize("max_gradient_norm", [None, 0.1])
def test_flat_adam_moves_like_torch_adam(max_gradient_norm):
    ours, theirs = network(), network()
    vector = placed(ours)
    flat_adam = FlatAdam(vector, 1e-2, max_gradient_norm)
    adam = torch.optim.Adam(theirs.parameters(), 1e-2)
    for i in range(30):
        flat_adam.step(gradients(ours, i))
        for parameter, gradient in zip(theirs.parameters(), gradients(theirs, i)):
            parameter.grad = gradient
        if max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(theirs.parameters(), max_gradient_norm)
        adam.step()
    expected = torch.cat([p.flatten() for p in theirs.parameters()])
    torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-6)


def clipped(parts, most):
    parts = [part.clone().requires_grad_() for part in parts]
    for part in parts:
        part.grad = part.detach().clone()
    nn.utils.clip_grad_norm_(parts, most)
    return [part.grad for part in parts]


@pytest.mark.parametrize("losses", [1, 2])
def test_gradients_of_networks_and_of_losses_are_clipped_apart(losses, monkeypatch):
    """One by one network; where losses share parameters, each as a whole, and then they are added."""
    module = network()
    adam = FlatAdam(placed(module), 1e-2, 0.1, [42, 16])
    taken = []
    monkeypatch.setattr(adam, "_apply", lambda vector, gradient, *_: taken.append(gradient.clone()))
    first, second = [gradients(module, 1), [100 * g for g in gradients(module, 2)]]
    assert adam.step(*(first, second)[:losses])
    if losses == 1:
        expected = [*clipped(first[:2], 0.1), *clipped(first[2:], 0.1)]
        assert torch.stack([g.norm() for g in first]).norm() > 0.2
    else:
        expected = [one + other for one, other in zip(clipped(first, 0.1), clipped(second, 0.1))]
    torch.testing.assert_close(taken[0], torch.cat([g.flatten() for g in expected]), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("losses", [1, 2])
def test_one_bad_number_skips_the_whole_step(losses):
    module = network()
    vector = placed(module)
    adam, before = FlatAdam(vector, 1e-2, 0.1, [42, 16]), vector.clone()
    good, bad = gradients(module, 1), [g.clone() for g in gradients(module, 2)]
    bad[3][0] = float("nan")
    assert not adam.step(*([bad], [good, bad])[losses - 1])
    assert torch.equal(vector, before)
    assert adam.skipped() == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("first", [True, False])
def test_step_with_a_bad_gradient_changes_nothing_and_is_counted(bad, first):
    module = network()
    vector = placed(module)
    adam = FlatAdam(vector, 1e-2, 1.0)
    if not first:
        adam.step(gradients(module, 0))
    before = [x.clone() for x in (vector, adam.mean, adam.square, adam.steps)]
    spoilt = [g.clone() for g in gradients(module, 1)]
    spoilt[1][2] = bad
    assert not adam.step(spoilt)
    for old, new in zip(before, (vector, adam.mean, adam.square, adam.steps)):
        assert torch.equal(old, new)
    assert adam.step(gradients(module, 2))
    assert adam.skipped() == 1
    assert not torch.equal(before[0], vector)


def test_count_of_skipped_steps_of_an_earlier_version_is_taken_over():
    adam = FlatAdam(torch.zeros(3), 1e-2, None)
    state = {**adam.state_dict(), "steps": torch.tensor(7.0), "attempts": torch.tensor(9)}
    del state["skips"]
    adam.load_state_dict(state)
    assert adam.skipped() == 2


def test_restored_adam_goes_on_exactly():
    runs = []
    for restore in (False, True):
        module = network()
        vector = placed(module)
        adam = FlatAdam(vector, 1e-2, None)
        for i in range(6):
            if restore and i == 3:
                state = adam.state_dict()
                adam = FlatAdam(vector, 1e-2, None)
                adam.load_state_dict(state)
            adam.step(gradients(module, i))
        runs.append(vector)
    assert torch.equal(*runs)
