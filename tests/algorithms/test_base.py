import pytest
import torch

from algorithms.base import METHODS, VALUES, make_algorithm
from algorithms.ppo.ppo import PPO
from algorithms.sac.sac import SAC
from algorithms.settings import (
    CloningSettings,
    CustomSettings,
    NetworkSettings,
    PolicyClass,
    PPOSettings,
    RewardSettings,
    SACSettings,
    policy_kind,
)
from algorithms.validation import validate_custom
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.algorithm_toys import Still
from tests.algorithms.loops import make_rows

SPEC = BehaviorSpec("b", (ObservationSpec("vector", (4,), "float32"),), 1, (3,))
CPU = torch.device("cpu")


def custom(name, **values):
    return CustomSettings(
        **{"network": NetworkSettings([6]), "path": f"tests.algorithms.algorithm_toys:{name}", **values}
    )


def make(settings, seed=1, capacity=200):
    return make_algorithm(SPEC, settings, make_rows(SPEC, capacity), CPU, seed, RewardSettings(), {})


def test_what_an_algorithm_has():
    assert METHODS == ["update", "set_progress", "metrics", "weights", "load_weights", "state_dict", "load_state_dict"]
    assert VALUES == [
        "policy",
        "updates",
        "publish_every",
        "updates_per_sample",
        "start_samples",
        "tolerance",
        "dropped",
        "cloning",
    ]


@pytest.mark.parametrize(("settings", "kind"), [(PPOSettings(), PPO), (SACSettings(), SAC)])
def test_settings_make_their_algorithm_which_has_all_of_that(settings, kind):
    made = make(settings, capacity=20_000)
    assert type(made) is kind
    assert all(hasattr(made, name) for name in METHODS + VALUES)
    assert made.policy.kind == policy_kind(settings) == settings.name


def test_a_class_of_ones_own_is_made_of_all_there_is():
    settings, rows, rewards, demos = custom("Still", settings={"a": [1]}), make_rows(SPEC, 200), RewardSettings(), {}
    validate_custom(settings)
    made = make_algorithm(SPEC, settings, rows, CPU, 7, rewards, demos)
    assert type(made) is Still
    assert made.given == (SPEC, settings, rows, CPU, 7, rewards, demos)


def test_its_first_weights_follow_from_the_seed_and_leave_torchs_own_alone():
    before = torch.random.get_rng_state()
    first, again, other = (make(custom("Still"), seed).policy.flat for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert make(custom("Squashed", policy_class=PolicyClass["sac"])).policy.kind == "sac"
    assert (torch.random.get_rng_state() == before).all()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (None, " is missing: name your class, behaviors.A.algorithm.path=my"),
        ("algorithm_toys", ": 'algorithm_toys' is no import path: write package.module:Class"),
        ("no_such:Still", r"no_such:Still cannot be imported \(ModuleNotFoundError: No module named 'no_such'\)"),
        ("tests.algorithms.algorithm_toys:Stil", "module tests.algorithms.algorithm_toys has no Stil"),
        ("tests.algorithms.algorithm_toys:NUMBER", ": tests.algorithms.algorithm_toys:NUMBER must be a class"),
        (
            "tests.algorithms.algorithm_toys:NoMethods",
            "NoMethods lacks set_progress, metrics, weights, .*: an algorithm has update,",
        ),
        (
            "tests.algorithms.algorithm_toys:TakesOne",
            r"TakesOne cannot be called with \(spec, settings, rows, device, seed, rewards, demos\): too many",
        ),
    ],
)
def test_a_path_that_names_no_algorithm_is_refused_with_the_settings(path, words):
    with pytest.raises(UserError, match=f"^behaviors.A.algorithm.path.*{words}"):
        validate_custom(custom("", path=path), "behaviors.A.algorithm")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"discount": 1.5}, "algorithm.discount=1.5 must lie between 0 and 1"),
        ({"buffer_memory_mib": 0}, "algorithm.buffer_memory_mib=0 must be at least 1"),
        ({"network": NetworkSettings([0])}, r"algorithm.network.hidden=\[0\]"),
        ({"cloning": CloningSettings(batch_size=0)}, "algorithm.cloning.batch_size=0 must be at least 1"),
        ({"buffer_capacity": 0}, "algorithm.buffer_capacity=0 has to be 1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(values, words):
    with pytest.raises(UserError, match=words):
        validate_custom(custom("Still", **values))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fails", r"cannot be made for behavior 'b' \(ValueError: nothing there\)"),
        ("NoValues", "has no policy, updates once it is made"),
        ("NoPolicy", "has another policy than acts with algorithm.policy_class=ppo"),
        ("Squashed", r"has another policy .* algorithms.policy.Policy\(spec, settings.network, 'ppo'\)"),
        ("OtherNetwork", "has another policy than acts"),
        ("MovedOut", r"has a policy outside policy.flat, which actors get: move it by policy.move_to"),
        ("NotAnInt", "has start_samples=0.5: it must be an int, 0 or more"),
        ("NeverUpdates", "has updates_per_sample=0: it must be a finite number above 0"),
        ("Impatient", "has tolerance=9: it must be 10, one update's samples, or more"),
        ("Hoards", "may let samples wait that take 2,000 rows, and the buffer holds 200: raise algorithm.buffer_mem"),
        ("FailsWeights", r"cannot tell its weights and state_dict \(AttributeError: no such thing\)"),
        ("Arrays", r"weights\(\) must return a dict of tensors by name"),
        ("OtherNames", r"weights\(\) must hold 'weights/policy', a copy of policy.flat"),
        ("Forgets", r"state_dict\(\) must hold all that weights\(\) does, and lacks weights/more"),
    ],
)
def test_a_class_that_lacks_what_is_needed_is_refused_as_it_is_made(name, words):
    with pytest.raises(UserError, match=f"^algorithm.path: tests.algorithms.algorithm_toys:{name}:? {words}"):
        make(custom(name))


def test_what_a_class_refuses_itself_is_said_in_its_words():
    with pytest.raises(UserError, match=r"^only on Sundays$"):
        make(custom("Refuses"))


def test_cloning_that_a_class_does_not_do_is_refused():
    with pytest.raises(UserError, match=r"does no cloning \(its cloning is None\): leave algorithm.cloning.demos out"):
        make(custom("Still", cloning=CloningSettings("x.demo")))
