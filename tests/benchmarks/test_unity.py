import pytest

from benchmarks.laws import durations
from benchmarks.unity import _decoding_of, _drawn_fraction, _text, main
from envs.seeding import episode_seed


def test_a_player_that_never_waited_has_supplied_all():
    drawn = durations("lognormal", episode_seed(episode_seed(3, 0, 0), 0, 1))
    next(drawn)
    seconds = sum(next(drawn) for _ in range(50))
    assert _drawn_fraction({"samples": [50], "spans": [seconds]}, 3) == pytest.approx(1.0)
    assert _drawn_fraction({"samples": [50], "spans": [2 * seconds]}, 3) == pytest.approx(0.5)


def test_both_readers_are_timed_on_the_same_message():
    figures = _decoding_of(3, 4, 1, seconds=0.01)
    assert figures["times_faster"] == pytest.approx(figures["mlagents_envs"] / figures["ours"])


def test_the_table_names_every_figure():
    text = _text({"seconds": 1.0, "seed": 0, "basic": {"samples_to_0.9": 3000, "evaluation": {"mean": 0.93}}})
    assert "samples_to_0.9" in text
    assert "evaluation.mean" in text


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--parts", "nothing"])
    assert end.value.code == 2
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
