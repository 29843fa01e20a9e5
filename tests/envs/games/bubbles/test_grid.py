import math
from itertools import pairwise

import pytest

from envs.games.bubbles.grid import CONTACT, Grid, grid

GRID = grid(10, 8, 31, 75.0)


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return math.hypot(a[0] - b[0], a[1] - b[1])


def test_ten_rows_of_eight_and_seven_are_75_cells_one_diameter_apart():
    assert len(GRID.cells) == 75
    nearest = [min(distance(GRID.position(a), GRID.position(b)) for b in GRID.cells if a != b) for a in GRID.cells]
    assert nearest == pytest.approx([1.0] * 75)


def test_an_inner_cell_has_six_neighbors_and_a_corner_two_or_three():
    assert len(GRID.neighbors[2 * 8 + 3]) == 6
    assert GRID.neighbors[0] == (1, 8)
    assert GRID.neighbors[8] == (0, 1, 9, 16, 17)


def test_walls_reflect():
    points = GRID.rays[30].points  # 75 degrees to the right
    assert [point[0] for point in points[1:-1]] == [7.5, 0.5, 7.5, 0.5, 7.5][: len(points) - 2]
    assert len(points) >= 4
    slopes = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(points)]
    assert slopes == pytest.approx([-math.tan(math.radians(75)) * (-1) ** i for i in range(len(slopes))])


def test_every_ray_ends_at_the_ceiling_and_the_middle_one_flies_straight_up():
    assert all(ray.points[-1][1] == 0.5 for ray in GRID.rays)
    assert GRID.rays[15].points == (GRID.cannon, (4.0, 0.5))


def test_the_fan_is_symmetric():
    for left, right in zip(GRID.rays, reversed(GRID.rays)):
        assert [x for x, _ in left.points] == pytest.approx([8 - x for x, _ in right.points])
        assert left.ceiling.distance == pytest.approx(right.ceiling.distance)


def test_a_shot_rests_in_a_neighbor_of_the_bubble_it_touches_before_anything_else_there():
    """The resting place touches the flight earlier than the hit bubble: its own bubble would have stopped the shot."""
    for ray in GRID.rays:
        order = {hit.bit: i for i, hit in enumerate(ray.hits)}
        for hit in ray.hits:
            assert hit.cell in GRID.neighbors[hit.bit.bit_length() - 1]
            assert order.get(1 << hit.cell, -1) < order[hit.bit]


def test_touches_come_in_order_of_distance_and_at_contact():
    for angle, ray in enumerate(GRID.rays):
        distances = [hit.distance for hit in ray.hits]
        assert distances == sorted(distances)
        for hit in ray.hits:
            touch = GRID.flight(angle, hit)[-2]
            assert distance(touch, GRID.position(hit.bit.bit_length() - 1)) == pytest.approx(CONTACT)


def test_flight_is_as_long_as_the_distance_says():
    for angle, ray in enumerate(GRID.rays):
        for hit in (*ray.hits, ray.ceiling):
            way = GRID.flight(angle, hit)
            assert sum(map(distance, way[:-2], way[1:-1])) == pytest.approx(hit.distance)
            assert way[-1] == GRID.position(hit.cell)


@pytest.mark.parametrize("columns", [2, 5, 8])
def test_connected_grows_along_neighbors_alone(columns: int):
    """Against a plain walk from cell to cell, on every single gap and every row wrap."""
    small = Grid(6, columns, 3, 60.0)
    everything = sum(1 << cell for cell in small.cells)
    for pattern in range(200):
        within = everything & (0x9E3779B97F4A7C15F39CC0605CEDC834 * (pattern + 1) >> pattern % 17)
        for seed in (cell for cell in small.cells if within >> cell & 1):
            walked, open_cells = {seed}, [seed]
            while open_cells:
                for neighbor in small.neighbors[open_cells.pop()]:
                    if within >> neighbor & 1 and neighbor not in walked:
                        walked.add(neighbor)
                        open_cells.append(neighbor)
            assert small.connected(1 << seed, within) == sum(1 << cell for cell in walked)
