import random
from dataclasses import replace

import pytest

from envs.games.bubbles.rules import Game, Level
from envs.spec import UserError

STRAIGHT = 15
RED, BLUE, GREEN = 0, 1, 2


def game_with(bubbles: dict[tuple[int, int], int], hand: tuple[int, int], **level: float) -> Game:
    """A game whose board holds only these bubbles: (row, column) -> colour."""
    game = Game(replace(Level(), **level), random.Random(0))
    game.board = [0] * game.level.colors
    for (row, column), color in bubbles.items():
        game.board[color] |= 1 << row * 8 + column
    game.occupied = sum(game.board)
    game.hand = list(hand)
    return game


def cells(game: Game) -> set[tuple[int, int]]:
    return {divmod(cell, 8) for cell in game.grid.cells if game.occupied >> cell & 1}


def test_a_new_board_has_six_full_rows_in_three_colors():
    game = Game(Level(), random.Random(0))
    assert game.occupied.bit_count() == 45
    assert sum(cells.bit_count() for cells in game.board) == 45
    assert all(game.board)
    assert max(row for row, _ in cells(game)) == 5


def test_three_of_one_color_pop():
    game = game_with({(0, 3): RED, (0, 4): RED, (0, 0): BLUE}, (RED, BLUE))
    shot = game.shoot(STRAIGHT, 0)
    assert shot.popped.bit_count() == 3
    assert cells(game) == {(0, 0)}


def test_two_of_one_color_stay():
    game = game_with({(0, 4): RED, (0, 3): BLUE}, (RED, BLUE))
    shot = game.shoot(STRAIGHT, 0)
    assert not shot.popped
    assert cells(game) == {(0, 3), (0, 4), (1, 3)}


def test_what_hangs_on_nothing_drops_and_what_hangs_on_the_ceiling_stays():
    bubbles = {(0, 3): RED, (0, 4): RED, (1, 4): BLUE, (2, 5): GREEN, (0, 7): GREEN, (1, 6): BLUE}
    game = game_with(bubbles, (RED, BLUE))
    shot = game.shoot(STRAIGHT - 1, 0)
    assert (shot.popped.bit_count(), shot.dropped.bit_count()) == (3, 2)
    assert cells(game) == {(0, 7), (1, 6)}


def test_an_empty_board_is_solved_and_ends_the_game():
    game = game_with({(0, 3): RED, (0, 4): RED}, (RED, RED))
    shot = game.shoot(STRAIGHT, 0)
    assert game.solved
    assert game.over
    assert game.reward(shot) == pytest.approx(-0.1 + 3 * 0.03 + 1.0)


def test_the_last_bubble_loses_the_game():
    game = game_with({(0, 0): BLUE, (0, 7): BLUE}, (RED, BLUE), limit=2)
    assert game.reward(game.shoot(STRAIGHT, 0)) == pytest.approx(-0.1)
    assert not game.over
    assert game.reward(game.shoot(STRAIGHT, 0)) == pytest.approx(-0.1 - 0.5)
    assert game.over
    assert not game.solved


def test_the_last_bubble_may_still_solve_the_level():
    game = game_with({(0, 3): RED, (0, 4): RED}, (RED, RED), limit=1)
    assert game.reward(game.shoot(STRAIGHT, 0)) == pytest.approx(-0.1 + 3 * 0.03 + 1.0)


def test_shooting_the_current_bubble_brings_up_the_next_and_shooting_the_next_keeps_the_current():
    board = {(0, c): c % 3 for c in range(8)}
    game = game_with(board, (RED, BLUE))
    assert game.shoot(0, 0).color == RED
    assert game.hand[0] == BLUE
    game = game_with(board, (RED, BLUE))
    assert game.shoot(0, 1).color == BLUE
    assert game.hand[0] == RED


def test_a_color_that_left_the_board_leaves_the_hand_and_is_never_drawn_again():
    for seed in range(30):
        game = game_with({(0, 3): RED, (0, 4): RED, (0, 0): BLUE, (0, 7): GREEN}, (RED, RED))
        game.rng.seed(seed)
        game.shoot(STRAIGHT, 0)
        assert RED not in game.hand
    drawn = {game._draw() for _ in range(100)}
    assert drawn == {BLUE, GREEN}


def test_a_bubble_left_in_the_lowest_row_is_lost():
    column = {(row, 3): row % 2 + 1 for row in range(9)}
    game = game_with(column, (RED, RED))
    game.board[RED] |= 1 << 7
    game.occupied |= 1 << 7
    before = cells(game)
    shot = game.shoot(STRAIGHT, 0)
    assert shot.hit.cell // 8 == 9
    assert cells(game) == before
    assert game.used == 1


def test_look_changes_nothing_and_tells_what_shoot_does():
    game = Game(Level(), random.Random(3))
    player = random.Random(4)
    for _ in range(30):
        angle, which = player.randrange(31), player.randrange(2)
        before = (list(game.board), list(game.hand), game.used, game.rng.getstate())
        seen = game.look(angle, game.hand[which])
        assert before == (list(game.board), list(game.hand), game.used, game.rng.getstate())
        assert game.shoot(angle, which) == seen


def test_colors_partition_the_board_and_all_hang_on_the_ceiling_throughout_play():
    game, player = Game(Level(), random.Random(5)), random.Random(6)
    for _ in range(2000):
        if game.over:
            game.reset()
        game.shoot(player.randrange(31), player.randrange(2))
        assert sum(cells.bit_count() for cells in game.board) == game.occupied.bit_count()
        assert sum(game.board) == game.occupied
        hanging = game.grid.connected(game.occupied & game.grid.top, game.occupied)
        assert hanging == game.occupied
        assert game.over or all(game.board[color] for color in game.hand)


def test_clump_makes_neighbors_alike():
    def alike(clump: float) -> float:
        game, pairs = Game(replace(Level(), clump=clump), random.Random(0)), 0
        for _ in range(100):
            game.reset()
            pairs += sum((c & c >> 1).bit_count() for c in game.board)
        return pairs / 100

    assert alike(0.0) < alike(0.3) < alike(0.9)


def test_duration_adds_up_flight_pops_drops_and_the_end():
    quiet = {"base_seconds": 0.5, "noise_seconds": 0.0}
    game = game_with({(0, 0): BLUE, (0, 4): RED}, (RED, BLUE), **quiet)
    shot = game.shoot(STRAIGHT, 0)
    assert game.duration(shot) == pytest.approx(0.5 + shot.hit.distance / 40)
    bubbles = {(0, 3): RED, (0, 4): RED, (1, 4): BLUE, (0, 7): BLUE}
    game = game_with(bubbles, (RED, BLUE), **quiet)
    shot = game.shoot(STRAIGHT - 1, 0)
    assert game.duration(shot) == pytest.approx(0.5 + shot.hit.distance / 40 + 3 * 0.01 + 0.06 + 0.006)
    del bubbles[0, 7]
    game = game_with(bubbles, (RED, BLUE), **quiet)
    shot = game.shoot(STRAIGHT - 1, 0)
    assert game.duration(shot) == pytest.approx(0.5 + shot.hit.distance / 40 + 3 * 0.01 + 0.06 + 0.006 + 0.1)
    game = game_with({(0, 0): BLUE}, (RED, BLUE), limit=1, **quiet)
    shot = game.shoot(STRAIGHT, 0)
    assert game.duration(shot) == pytest.approx(0.5 + shot.hit.distance / 40 + 0.1)


def test_duration_noise_is_uniform_up_to_noise_seconds():
    game = game_with({(0, 0): BLUE}, (RED, BLUE), base_seconds=0.0, noise_seconds=2.0)
    shot = game.shoot(STRAIGHT, 0)
    noise = [game.duration(shot) - shot.hit.distance / 40 for _ in range(2000)]
    assert 0 <= min(noise) < 0.02
    assert 1.98 < max(noise) <= 2.0
    assert sum(noise) / 2000 == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("columns", 1), ("filled_rows", 0), ("rows", 6), ("colors", 0), ("colors", 9), ("clump", 1.5), ("limit", 0),
        ("angles", 1), ("widest_angle", 90.0), ("base_seconds", -1.0), ("noise_seconds", -0.1), ("limit", 2.5),
        ("clump", "much"), ("rows", True),
    ],
)  # fmt: skip
def test_an_impossible_level_is_refused_by_name_and_value(name: str, value: object):
    with pytest.raises(UserError, match=f"{name}={value!r} must (be|lie) "):
        replace(Level(), **{name: value})


def test_other_sizes_play():
    for level in (Level(rows=5, columns=3, filled_rows=2, colors=2, angles=5), Level(columns=12, colors=8, angles=61)):
        game, player = Game(level, random.Random(0)), random.Random(0)
        for _ in range(200):
            if game.over:
                game.reset()
            game.shoot(player.randrange(level.angles), player.randrange(2))
            assert game.occupied & ~sum(1 << cell for cell in game.grid.cells) == 0
