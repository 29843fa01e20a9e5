"""`python -m benchmarks.training_picture docs/images/training.gif`: the moving picture of the README.

Trains `snoopy_sac`, and lets what it knew after some 1,000 and 4,000 samples and in the end play the same board side by
side: of some boards that on which each needs as many shots as it does on average. Below runs the learning curve. The
games are played as in training, with drawn actions.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image, ImageDraw

import envs.games  # noqa: F401
import outstep
from envs.games.picture import font
from envs.spec import Array

BOARD = (216, 272)
GAP, HEADER, CURVE = 12, 30, 96
WIDTH = 3 * BOARD[0] + 4 * GAP
INK, QUIET, PAPER, LINE = (236, 238, 255), (150, 160, 205), (14, 16, 40), (88, 214, 110)
MILLISECONDS, LAST_MILLISECONDS = 200, 3000
COLORS = 96
BOARDS = 30


def main(words: Sequence[str] | None = None) -> None:
    """Trains, plays and writes the GIF."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        policies: dict[int, outstep.Policy] = {}

        def keep(checkpoint: Path) -> None:
            if not checkpoint.name.startswith("best"):
                samples = int(checkpoint.name.rpartition("-")[2])
                policies[samples] = outstep.load(checkpoint.parents[1]).policy("last")

        every = {"every_samples": 1000}
        run = outstep.train("snoopy_sac", checkpoint=every, run={"dir": f"{folder}/run"}, on_checkpoint=keep)
        stages = [min(policies), min(policies, key=lambda samples: abs(samples - 4000)), max(policies)]
        bubbles = run.metrics()["goal/bubbles"]
        curve = list(zip(bubbles.samples.tolist(), bubbles.values.tolist()))
        plays = _plays([policies[samples] for samples in stages])
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_bytes(_gif(_frames(stages, plays, curve)))
    print(f"{arguments.picture}: {arguments.picture.stat().st_size / 1e6:.2f} MB")


def _plays(policies: Sequence[outstep.Policy]) -> list[list[Array]]:
    """Returns the pictures of the most typical board's games, for each policy one and in it one for each shot."""
    games = [[_play(policy, seed) for policy in policies] for seed in range(BOARDS)]
    shots = np.array([[len(actions) for actions in game] for game in games])
    seed = int(np.abs(shots - shots.mean(0)).sum(1).argmin())
    return [_pictures(actions, seed) for actions in games[seed]]


def _play(policy: outstep.Policy, seed: int) -> list[Array]:
    """Returns the actions of one game."""
    env = gymnasium.make("BubbleShooter-v0")
    observation, _ = env.reset(seed=seed)
    actions: list[Array] = []
    over = False
    while not over:
        action, _ = policy.predict(observation, deterministic=False)
        observation, _, over, _, _ = env.step(action)
        actions.append(action)
    return actions


def _pictures(actions: Sequence[Array], seed: int) -> list[Array]:
    env: Any = gymnasium.make("BubbleShooter-v0", render_mode="rgb_array")
    env.reset(seed=seed)
    pictures = [env.render()]
    for action in actions:
        env.step(action)
        pictures.append(env.render())
    return pictures


def _frames(
    stages: Sequence[int], plays: Sequence[Sequence[Array]], curve: Sequence[tuple[float, float]]
) -> list[Image.Image]:
    """Returns the frames: until shortly after the last stage has cleared its board."""
    background = Image.new("RGB", (WIDTH, HEADER + BOARD[1] + CURVE + GAP), PAPER)
    draw = ImageDraw.Draw(background)
    for place, samples in enumerate(stages):
        left = GAP + place * (BOARD[0] + GAP)
        draw.text((left + BOARD[0] / 2, HEADER / 2), f"after {samples:,} samples", INK, font(14), "mm")
    _draw_curve(draw, curve, stages)
    frames = []
    for shot in range(len(plays[-1])):
        frame = background.copy()
        for place, play in enumerate(plays):
            picture = Image.fromarray(play[min(shot, len(play) - 1)]).resize(BOARD, Image.Resampling.LANCZOS)
            frame.paste(picture, (GAP + place * (BOARD[0] + GAP), HEADER))
        frames.append(frame)
    return frames


def _draw_curve(draw: ImageDraw.ImageDraw, curve: Sequence[tuple[float, float]], stages: Sequence[int]) -> None:
    top, bottom, left, right = HEADER + BOARD[1] + 26, HEADER + BOARD[1] + CURVE - 6, GAP + 28, WIDTH - GAP - 8
    most, least = max(value for _, value in curve), min(value for _, value in curve)
    end = max(stages)

    def point(samples: float, value: float) -> tuple[float, float]:
        return left + samples / end * (right - left), bottom - (value - least) / (most - least) * (bottom - top)

    draw.text((GAP, top - 16), "bubbles a game, over the samples of the run", QUIET, font(12), "lm")
    for value in (most, least):
        draw.text((left - 6, point(0, value)[1]), f"{value:.0f}", QUIET, font(12), "rm")
    draw.line([point(*each) for each in curve], LINE, 2, "curve")
    for samples in stages:
        _, value = min(curve, key=lambda each: abs(each[0] - samples))
        x, y = point(samples, value)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), LINE)


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """Returns a GIF that repeats, with one palette for all frames so that only what has moved takes room."""
    palette = frames[len(frames) // 2].quantize(COLORS, dither=Image.Dither.NONE)
    images = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [MILLISECONDS] * (len(images) - 1) + [LAST_MILLISECONDS]
    stream = io.BytesIO()
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)
    return stream.getvalue()


if __name__ == "__main__":
    main()
