import pytest

from envs.parameters import Parameters, common
from envs.spec import Lessons, UserError

UNIFORM = {"sampler": "uniform", "min": 1, "max": 2}
RANGES = {"sampler": "multi_range", "intervals": [[0, 1], [5, 8], [9, 9]]}
GAUSSIAN = {"sampler": "gaussian", "mean": 10, "deviation": 0.5}
STEPS = {"lessons": [{"value": 1, "until": {"above": 1}}, {"value": UNIFORM, "until": {"above": 2}}, {"value": 3}]}


def draws(parameters, name, lessons=None, instance=0, episodes=300):
    lessons = lessons or parameters.first
    return [parameters.episode(lessons, 7, instance, episode).values[name] for episode in range(episodes)]


def test_numbers_are_as_written_and_samplers_draw_what_they_say():
    parameters = Parameters({"a": 3, "b": UNIFORM, "c": RANGES, "d": GAUSSIAN})
    assert draws(parameters, "a") == [3] * 300
    assert isinstance(draws(parameters, "a")[0], int)
    b, c, d = (draws(parameters, name) for name in "bcd")
    assert all(1 <= x <= 2 for x in b)
    assert len(set(b)) == 300
    assert all(0 <= x <= 1 or 5 <= x <= 8 for x in c)
    assert 0.6 < sum(x >= 5 for x in c) / 300 < 0.9  # by their widths, 3 in 4
    assert abs(sum(d) / 300 - 10) < 0.15


def test_a_draw_depends_on_seed_instance_episode_and_name_alone():
    parameters = Parameters({"a": UNIFORM, "b": UNIFORM})
    assert draws(parameters, "a") == draws(Parameters({"z": 1, "a": UNIFORM}), "a")
    assert len({*draws(parameters, "a"), *draws(parameters, "b"), *draws(parameters, "a", instance=1)}) == 900


def test_a_lesson_changes_its_own_parameter_and_no_other():
    parameters = Parameters({"size": STEPS, "wind": UNIFORM})
    first, last = Lessons(0, (0,)), Lessons(4, (2,))
    assert (draws(parameters, "size", first), draws(parameters, "size", last)) == ([1] * 300, [3] * 300)
    assert draws(parameters, "wind", first) == draws(parameters, "wind", last)
    assert all(1 <= x <= 2 for x in draws(parameters, "size", Lessons(1, (1,))))
    assert (parameters.first, parameters.last) == (first, Lessons(0, (2,)))


def test_a_share_of_episodes_is_played_in_earlier_lessons():
    lessons = [{"value": 0, "until": {"above": 1}}, {"value": 1, "until": {"above": 1}}, {"value": 2, "earlier": 0.4}]
    parameters = Parameters({"size": {"lessons": lessons}, "fixed": STEPS})
    episodes = [parameters.episode(Lessons(5, (2, 1)), 7, 0, n) for n in range(400)]
    values = [episode.values["size"] for episode in episodes]
    assert [episode.lessons for episode in episodes] == [Lessons(5, (value, 1)) for value in values]
    assert 0.5 < values.count(2) / 400 < 0.7
    assert min(values.count(0), values.count(1)) > 40


def test_lessons_are_common_where_all_agree_since_the_earliest_change():
    assert common([Lessons(3, (1, 0)), Lessons(2, (1, 2))]) == Lessons(2, (1, -1))


def lessons(*each):
    return {"a": {"lessons": list(each)}}


END = {"above": 1}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"a": "high"}, "env.parameters.a=high must be a number, or a sampler"),
        ({"a": True}, "env.parameters.a=True"),
        ({"a": float("inf")}, "env.parameters.a=inf"),
        ({"a": 10**400}, "env.parameters.a=1000"),
        ({"a": {"sampler": "unifrom", "min": 0, "max": 1}}, "'unifrom'.* is no sampler: .sampler: uniform, min: …"),
        ({"a": {"sampler": ["uniform"]}}, "is no sampler"),
        ({"a": {"sampler": "uniform", "min": 0}}, "is no sampler"),
        ({"a": {"sampler": "uniform", "min": 0, "max": 1, "mean": 1}}, "is no sampler"),
        ({"a": {"sampler": "uniform", "min": 2, "max": 1}}, r"a: \[2, 1\] has its least value above its greatest"),
        ({"a": {"sampler": "uniform", "min": "x", "max": 1}}, r"a: \['x', 1\] must be numbers"),
        ({"a": {"sampler": "gaussian", "mean": 0, "deviation": -1}}, "a.deviation=-1 must not be negative"),
        ({"a": {"sampler": "multi_range", "intervals": []}}, r"a.intervals=\[\] must be a list of pairs"),
        ({"a": {"sampler": "multi_range", "intervals": [[0, 1], [2]]}}, "must be a list of pairs"),
        ({"a": {"sampler": "multi_range", "intervals": "01"}}, "must be a list of pairs"),
        ({"a": {"sampler": "multi_range", "intervals": [[1, 0]]}}, "least value above"),
        ({"a": {"lessons": []}}, r"env.parameters.a.lessons=\[\] must be a list of lessons"),
        ({"a": {"lessons": 3}}, "lessons=3 must be a list"),
        ({"a": {"lessons": [{"value": 1}], "value": 3}}, "unknown key env.parameters.a.value"),
        (lessons(1), r"a.lessons\[0\]=1 must be a lesson"),
        (lessons({"valeu": 1}), r"unknown key env.parameters.a.lessons\[0\].valeu; did you mean value"),
        (lessons({"until": END}), r"lessons\[0\].value is missing"),
        (lessons({"value": {"sampler": "uniform", "min": 2, "max": 1}}), r"lessons\[0\].value: \[2, 1\] has its least"),
        (lessons({"value": 1}, {"value": 2}), r"lessons\[0\].until is missing, so this lesson would never end"),
        (lessons({"value": 1, "until": END}), r"lessons\[0\].until=.*: the last lesson ends with the run"),
        (lessons({"value": 1, "until": {}}, {"value": 2}), r"until.above is missing: what reward has to lie above"),
        (lessons({"value": 1, "until": {"above": "x"}}, {"value": 2}), "until.above=x must be a number"),
        (lessons({"value": 1, "until": 3}, {"value": 2}), "until=3 must say when"),
        (lessons({"value": 1, "until": {"below": 1}}, {"value": 2}), "unknown key .*until.below; there is above"),
        (
            lessons({"value": 1, "until": {"measure": "progress", "above": 80}}, {"value": 2}),
            "until.above=80 must lie between 0 and 1: progress is the share of stop.samples",
        ),
        (
            lessons({"value": 1, "until": {"measure": "progress", "above": 0.1, "smoothing": 0.1}}, {"value": 2}),
            "progress is not noisy",
        ),
        (lessons({"value": 1, "until": {**END, "measure": 3}}, {"value": 2}), "until.measure=3 must be reward, length"),
        (
            lessons({"value": 1, "until": {**END, "episodes": 0}}, {"value": 2}),
            "episodes=0 must be a whole number from 1",
        ),
        (lessons({"value": 1, "until": {**END, "smoothing": 1}}, {"value": 2}), "smoothing=1 must be at least 0"),
        (lessons({"value": 1, "until": {**END, "behavior": 1}}, {"value": 2}), "behavior=1 must be the name"),
        (lessons({"value": 1, "back": {"below": 1}}), r"lessons\[0\].back: there is no lesson before the first"),
        (lessons({"value": 1, "until": END}, {"value": 2, "earlier": 1}), r"lessons\[1\].earlier=1 must be a share"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_name(parameters, words):
    with pytest.raises(UserError, match=words):
        Parameters(parameters)
