import pytest
import torch

from algorithms.base import make_algorithm
from algorithms.networks.mlp import MLP, StackedMLP
from algorithms.policy import Policy
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.registry import CustomSettings, PolicyClass
from algorithms.rewards.gail import Discriminator
from algorithms.rewards.settings import CuriositySettings, GAILSettings, RNDSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import Activation, CloningSettings, NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.algorithms.algorithm_toys import Options, Still
from tests.algorithms.loops import make_rows

SPEC = BehaviorSpec("b", (ObservationSpec("vector", (4,), "float32"),), 1, (3,))
CPU = torch.device("cpu")


def custom(name, **values):
    return CustomSettings(
        **{"network": NetworkSettings([6]), "path": f"tests.algorithms.algorithm_toys:{name}", **values}
    )


def make(settings, seed=1, capacity=200):
    return make_algorithm(SPEC, settings, make_rows(SPEC, capacity), CPU, seed, {}, {})


@pytest.mark.parametrize("kind", [PPOSettings, SACSettings])
def test_all_hidden_layers_of_a_run_have_the_activation_that_is_set(kind):
    network = NetworkSettings([6], activation=Activation["silu"])
    signals = {"curiosity": CuriositySettings(strength=1.0), "rnd": RNDSettings(strength=1.0)}
    made = make_algorithm(SPEC, kind(network=network), make_rows(SPEC, 20_000), CPU, 1, signals, {})
    networks = [made.policy, made.value if kind is PPOSettings else made.networks.critic]
    networks += [signal._model for signal in made.rewards._signals.values()]
    networks.append(Discriminator(SPEC, GAILSettings(), made.policy.network))
    hidden = [[part for part in each.modules() if isinstance(part, (MLP, StackedMLP))] for each in networks]
    assert all(hidden)
    assert {part.activation for parts in hidden for part in parts} == {Activation["silu"]}


@pytest.mark.parametrize(("settings", "kind"), [(PPOSettings(), PPO), (SACSettings(), SAC)])
def test_settings_make_their_algorithm_whose_policy_actors_can_make_too(settings, kind):
    made = make(settings, capacity=20_000)
    assert type(made) is kind
    assert made.policy.kind == settings.kind == settings.name
    assert made.policy.flat.shape == Policy(SPEC, settings.network, settings.kind).flat.shape


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (PPOSettings(), ["policy", "value"]),
        (SACSettings(), ["policy", "critics", "temperatures", "targets"]),
        (SACSettings(learn_temperature=False), ["policy", "critics", "temperatures", "targets"]),
    ],
)
def test_tensors_of_a_checkpoint_keep_the_names_that_they_had(settings, names):
    state = make(settings, capacity=20_000).state_dict()
    names = [*names, "normalizer", "returns/extrinsic"]
    assert sorted(key for key in state if key.startswith("weights/")) == sorted(f"weights/{name}" for name in names)
    assert {"optimizer/mean", "optimizer/square", "optimizer/steps", "random/torch", "updates"} <= state.keys()


@pytest.mark.parametrize(("settings", "old"), [(PPOSettings(), "progress"), (SACSettings(), "learning_rate")])
def test_a_state_of_the_version_before_loads(settings, old):
    first, again = make(settings, 1, 20_000), make(settings, 2, 20_000)
    state = first.state_dict()
    if old == "learning_rate":  # SAC saved that in place of the progress from which it follows
        state |= {old: torch.tensor(0.125)}
        del state["progress"]
    else:  # PPO drew nothing from numpy
        del state["random/numpy"]
    again.load_state_dict(state)
    assert (again.policy.flat == first.policy.flat).all()
    if old == "learning_rate":
        assert float(again.optimizers["all"].learning_rate) == 0.125


def test_a_class_of_ones_own_is_made_with_settings_of_its_own():
    settings = custom("Squashed", settings={"width": 3, "learning_rate": 1e-2}, discount=0.5)
    settings.validate()
    made = make(settings, 7)
    assert isinstance(made, Still)
    assert made.settings == Options("custom", NetworkSettings([6]), discount=0.5, width=3, learning_rate=1e-2)
    assert made.policy.kind == settings.kind == "sac"
    assert float(made.optimizers["more"].learning_rate) == pytest.approx(1e-2)


def test_its_first_weights_follow_from_the_seed_and_leave_torchs_own_alone():
    before = torch.random.get_rng_state()
    first, again, other = (make(custom("Still"), seed).policy.flat for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert (torch.random.get_rng_state() == before).all()


def test_networks_are_learned_apart_and_fixed_ones_not_at_all():
    made = make(custom("Steps", settings={"learning_rate": 0.5}), capacity=5000)
    assert list(made.optimizers) == ["policy", "more"]
    before = {name: tensor.clone() for name, tensor in made.weights().items()}
    made.learn(None)
    changed = [name for name, tensor in made.weights().items() if not torch.equal(tensor, before[name])]
    assert changed == ["weights/more"]
    metrics = made.metrics()
    assert metrics["loss/more"] == pytest.approx(float(made.more.bias.sum()))
    assert metrics["update/skipped_non_finite"] == 0


def test_it_goes_on_from_its_state():
    settings = custom("Steps", settings={"learning_rate_end": 0.0, "schedule_samples": 100})
    whole, part = make(settings, 1, 5000), make(settings, 2, 5000)
    for each in (whole, part):
        each.set_progress(50)
    whole.learn(None)
    part.load_state_dict(whole.state_dict())
    whole.learn(None)
    part.learn(None)
    one, other = whole.state_dict(), part.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (None, " is missing: name your class, behaviors.A.algorithm.path=my"),
        ("algorithm_toys", ": 'algorithm_toys' is no import path: write package.module:Class"),
        ("no_such:Still", r"no_such:Still cannot be imported \(ModuleNotFoundError: No module named 'no_such'\)"),
        ("tests.algorithms.algorithm_toys:Stil", "module tests.algorithms.algorithm_toys has no Stil"),
        ("tests.algorithms.algorithm_toys:NUMBER", ": tests.algorithms.algorithm_toys:NUMBER must be a class"),
        ("tests.algorithms.algorithm_toys:NoMethods", "NoMethods must be a class that derives from algorithms.base.Al"),
        ("tests.algorithms.algorithm_toys:Halfway", "Halfway lacks build$"),
        (
            "tests.algorithms.algorithm_toys:NoDataclass",
            "its Settings must be a dataclass that derives from",
        ),
        (
            "tests.algorithms.algorithm_toys:OtherSettings",
            "its Settings must be a dataclass that derives from",
        ),
        (
            "tests.algorithms.algorithm_toys:TakesOne",
            r"TakesOne cannot be called with \(spec, settings, rows, device, seed, rewards, demos\): too many",
        ),
    ],
)
def test_a_path_that_names_no_algorithm_is_refused_with_the_settings(path, words):
    with pytest.raises(UserError, match=f"^behaviors.A.algorithm.path.*{words}"):
        custom("", path=path).validate("behaviors.A.algorithm")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"discount": 1.5}, "algorithm.discount=1.5 must lie between 0 and 1"),
        ({"buffer_memory_mib": 0}, "algorithm.buffer_memory_mib=0 must be at least 1"),
        ({"network": NetworkSettings([0])}, r"algorithm.network.hidden\[0\]=0 must be at least 1"),
        ({"cloning": CloningSettings(batch_size=0)}, "algorithm.cloning.batch_size=0 must be at least 1"),
        ({"buffer_capacity": 0}, "algorithm.buffer_capacity=0 has to be 1 or more"),
        ({"policy_class": PolicyClass["ppo"]}, "another policy than acts with algorithm.policy_class=ppo: .* for sac"),
        ({"settings": {"widht": 1}}, r"unknown key algorithm.settings.widht; did you mean algorithm.settings.width\?"),
        ({"settings": {"discount": 1}}, "unknown key algorithm.settings.discount"),
        ({"settings": {"width": 0}}, "algorithm.settings.width=0 must be at least 1"),
        ({"settings": {"width": "x"}}, "algorithm.settings.width=x: .* could not be converted to Integer"),
        ({"settings": {"widths": [1, "x"]}}, r"algorithm.settings.widths\[1\]=x: .* could not be converted to Integer"),
        ({"settings": {"factor": "nan"}}, "algorithm.settings.factor=nan must be a finite number"),
        (
            {"settings": {"learning_rate_end": 0.1}},
            "learning_rate_end=0.1 needs algorithm.settings.schedule_samples",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(values, words):
    with pytest.raises(UserError, match=words):
        custom("Squashed", **values).validate()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fails", r"cannot be made for behavior 'b' \(ValueError: nothing there\)"),
        ("NotAnInt", "has start_samples=0.5: it must be an int, 0 or more"),
        ("NeverUpdates", "has updates_per_sample=0: it must be a finite number above 0"),
        ("NoPace", "has updates_per_sample=None: it must be a finite number above 0"),
        ("Impatient", "has tolerance=9: it must be 10, one update's samples, or more"),
        ("Hoards", "may let samples wait that take 2,000 rows, and the buffer holds 200: raise algorithm.buffer_mem"),
    ],
)
def test_a_class_that_lacks_what_is_needed_is_refused_as_it_is_made(name, words):
    with pytest.raises(UserError, match=f"^algorithm.path: tests.algorithms.algorithm_toys:{name}:? {words}"):
        make(custom(name))


def test_what_a_class_refuses_itself_is_said_in_its_words():
    with pytest.raises(UserError, match=r"^only on Sundays$"):
        make(custom("Refuses"))
