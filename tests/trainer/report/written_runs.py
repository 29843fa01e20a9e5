"""Run folders as a run leaves them, written in milliseconds and without one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from envs.gym.replay_gif import animated_gif
from envs.gym.video import _MP4
from trainer.config.compose import as_dict, compose, save_config
from trainer.config.schema import TrainConfig
from trainer.evaluate.results import Evaluation, PlayedEpisode, save_evaluation
from trainer.telemetry.metrics_file import MetricsFile

BASIC = ["+experiment=basic_ppo", "run.name=basic"]
CURVES = {
    "run/seconds": 3.0,
    "run/samples_per_second": 250.0,
    "run/env_utilization": 0.97,
    "time/acting": 0.1,
    "time/waiting_for_games": 0.7,
    "time/throttled": 0.0,
    "time/writing": 0.1,
    "time/updating": 0.3,
    "time/waiting_for_samples": 0.6,
    "instances/smallest_share": 0.06,
    "instances/share_0": 0.06,
    "episode/reward": 0.5,
    "episode/length": 7.0,
    "loss/policy": -0.02,
    "policy/entropy": 1.1,
    "policy/kl": 0.01,
    "update/count": 9.0,
}
"""The names of a run's scalars, with their last values."""
FEW = {name: CURVES[name] for name in ("run/samples_per_second", "run/env_utilization", "episode/reward")}
"""Those that a page tells in figures, too: drawing a chart takes a while."""


def written_run(
    folder: Path, *overrides: str, curves: Mapping[str, float] = FEW, stopped_by: str | None = "samples"
) -> Path:
    """A run with ten points of each of `curves`, up to sample 1000, and a summary unless `stopped_by` is None."""
    folder.mkdir(parents=True)
    save_config(compose([*BASIC, *overrides], TrainConfig, "config"), folder)
    write_points(folder, range(100, 1001, 100), curves)
    if stopped_by:
        write_summary(folder, 1000, stopped_by)
    return folder


def write_points(folder: Path, samples: range, curves: Mapping[str, float], begun: int = 0) -> None:
    """Points that rise to the value of each curve; `begun` are the samples at which a run is resumed."""
    file = MetricsFile(folder, begun)
    for at in samples:
        file.values(at, 0.0, {name: value * at / samples[-1] for name, value in curves.items()})
    file.close()


def write_summary(folder: Path, samples: int, stopped_by: str, **extra) -> None:
    """`summary.json`."""
    figures = {"seconds": 3.0, "samples_per_second": 333.3, "env_utilization": 0.97, "episode_reward_mean": 0.4321}
    goal = {"goal_samples": None, "goal_seconds": None, "goal_windows": {}}
    updates = {"updates": {"Basic-v0": 9}, "updates_achieved": {"Basic-v0": 1.0}, "dropped": {"Basic-v0": 12}}
    summary = {"samples": samples, **figures, "episodes": 143, "stopped_by": stopped_by, **goal, **extra, **updates}
    (folder / "summary.json").write_text(json.dumps(summary))


def write_evaluation(
    folder: Path, rewards: list[float], *, video: bytes | None = None, suffix: str = ".gif", **changes
) -> Path:
    """An evaluation with an episode for each reward; `video`, if given, is the file of each."""
    env = as_dict(compose(BASIC, TrainConfig, "config").env)
    name = None if video is None else "episode-{}" + suffix
    episodes = [
        PlayedEpisode("Basic-v0", each, 7, {}, name and name.format(i)) for i, each in enumerate(rewards, start=1)
    ]
    files = {}
    for episode in episodes:
        if episode.video:
            files[episode.video] = folder / episode.video
            files[episode.video].write_bytes(video)
    given = {"checkpoint": "best-000001", "samples": 900, "deterministic": True, "seed": 7, "env": env} | changes
    return save_evaluation(Evaluation(played_at="2026-01-02T03:04:05+00:00", episodes=episodes, **given), folder, files)


def mp4(folder: Path) -> bytes:
    """The same as MP4, which takes imageio-ffmpeg."""
    file = folder / "made.mp4"
    video = _MP4(file, 10)
    for at in range(3):
        video.add(np.full((32, 64, 3), 60 * at, np.uint8))
    video.close()
    return file.read_bytes()


def gif(frames: int = 3) -> bytes:
    """A moving picture, 64 x 32."""
    return animated_gif([np.full((32, 64, 3), 60 * at, np.uint8) for at in range(frames)], 10)
