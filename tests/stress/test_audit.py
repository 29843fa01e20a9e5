import numpy as np
import pytest

from tests.stress.audit import audit, delivered
from tests.stress.chaos_toys import Played

ALL = {1, 2}


@pytest.fixture
def played(tmp_path):
    return Played(tmp_path)


def test_whole_buffer_is_clean(played):
    found = audit(played.rows, played.records(), set(), ALL)
    assert found.clean
    assert (found.rows, found.recorded, found.lost, found.after_the_end) == (120, 120, 0, 0)
    assert (found.failed_unasked, found.unfinished, found.examples) == (0, 0, [])
    assert len(delivered(played.rows, played.records())) == 120


def test_open_row_of_what_failed_may_be_lost(played):
    played.step(0, keep=False)
    played.step(1)  # the run goes on
    found = audit(played.rows, played.records(), {1}, {2})
    assert found.clean
    assert (found.open_when_failed, found.lost, found.after_the_end) == (1, 1, 0)


def test_steps_after_the_last_checkpoint_are_not_lost(played):
    for _ in range(3):
        played.step(0, keep=False)
        played.step(1, keep=False)
    found = audit(played.rows, played.records(), set(), ALL)
    assert found.clean
    assert (found.lost, found.after_the_end) == (0, 6)


def test_second_lost_row_is_one_too_many(played):
    for _ in range(2):
        played.step(0, keep=False)
    played.step(1)
    found = audit(played.rows, played.records(), {1}, {2})
    assert (found.lost, found.lost_beyond) == (1, 1)
    assert not found.clean
    assert found.examples[0].startswith("lost: life 1, episode ")


def test_planted_loss_is_found(played):
    number = played.inner_row()
    fields, slot = played.rows.fields, played.rows.slots(np.array([number]))
    fields["final"][slot] = True  # as if it had never been appended
    found = audit(played.rows, played.records(), ALL, set())
    assert found.lost_beyond == 1
    assert not found.clean


def test_planted_duplicate_is_found(played):
    fields, slot = played.rows.fields, int(played.rows.slots(np.array([played.inner_row()]))[0])
    row = {name: column[slot].copy() for name, column in fields.items()}
    played.append(0, row["observation_0"], float(row["reward"]), False, False, row["observation_0"])
    found = audit(played.rows, played.records(), set(), ALL)
    assert found.duplicates == 1
    assert not found.clean


def test_row_that_nobody_has_recorded_is_found(played):
    records = played.records()
    records[2] = records[2][:-1]
    assert audit(played.rows, records, set(), ALL).unknown == 1


@pytest.mark.parametrize("field", ["observation_0", "reward", "discrete", "terminated"])
def test_row_that_holds_something_else_is_found(played, field):
    slot = played.rows.slots(np.array([played.inner_row()]))
    if field == "observation_0":
        played.rows.fields[field][slot, -1] += 1
    elif field == "terminated":
        played.rows.fields[field][slot] = True
    else:
        played.rows.fields[field][slot] += 1
    found = audit(played.rows, played.records(), set(), ALL)
    assert found.wrong == 1
    assert not found.clean


def test_number_that_is_none_is_found(played):
    played.rows.fields["reward"][played.rows.slots(np.array([played.inner_row()]))] = np.nan
    found = audit(played.rows, played.records(), set(), ALL)
    assert (found.not_finite, found.wrong) == (1, 0)


def test_link_to_another_row_or_none_is_found(played):
    slot = played.rows.slots(np.array([played.inner_row()]))
    for link in (played.rows.fields["next"][slot] + 1, -1, 0):
        played.rows.fields["next"][slot] = link
        found = audit(played.rows, played.records(), set(), ALL)
        assert found.wrong_links == 1
        assert not found.clean


def test_life_that_ended_by_itself_is_told_of(played):
    assert audit(played.rows, played.records(), set(), {2}).failed_unasked == 1


def test_game_is_over_now_and_then_in_both_ways(played):
    flags = np.concatenate([each["flags"] for each in played.records().values()])
    assert {int(flag) for flag in flags} == {0, 1, 2}
