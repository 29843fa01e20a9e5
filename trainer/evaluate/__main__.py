"""`outstep evaluate run=runs/… video=true`: plays a trained policy and prints what it scores.

Episodes are divided evenly among instances beforehand, so that short ones are not over-represented. Resets have other
seeds than in training. The results are described in `trainer.evaluate.results`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from envs.gym import video
from envs.spec import UserError
from trainer.checkpoint import Checkpoint
from trainer.config.command import run_command
from trainer.config.saved import as_written, load_config
from trainer.config.schema import EvaluateConfig, TrainConfig
from trainer.evaluate import versus
from trainer.evaluate.play import evaluate
from trainer.evaluate.results import RESULTS, Evaluation, Figure, PlayedEpisode, place_of, save_evaluation, scalars
from trainer.saved_policy import load_checkpoint
from trainer.telemetry.tensorboard import TensorBoard


def main(argv: Sequence[str] | None = None) -> int:
    """Plays episodes with a trained policy and reports what it scores, or how its matches against others end."""
    return run_command(argv, EvaluateConfig, "evaluate", _check, _evaluate)


def _check(config: EvaluateConfig) -> None:
    if config.against is not None or versus.contestants(config.run):
        versus.check(config)
        return
    saved = load_config(config.run, config.trust)
    load_checkpoint(config.run, config.checkpoint)
    env = config.env or saved.env
    (env.filmed(Path()) if config.video else env).for_evaluation(min(config.episodes, env.instances)).check()


def _evaluate(config: EvaluateConfig) -> int:
    if config.against is not None or versus.contestants(config.run):
        return versus.evaluate_matches(config)
    checkpoint = load_checkpoint(config.run, config.checkpoint)
    saved = load_config(config.run, config.trust)
    env = config.env or saved.env
    place = place_of(Path(config.run), config.deterministic)
    progress = _Progress(config.episodes)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".playing-", dir=place, ignore_cleanup_errors=True) as folder:
            playing = replace(saved, env=env.filmed(Path(folder)) if config.video else env)
            try:
                played = evaluate(
                    playing,
                    checkpoint,
                    config.episodes,
                    seed=config.seed,
                    deterministic=config.deterministic,
                    on_episode=progress.add,
                )
            finally:
                progress.end()
            evaluation, videos = _evaluation(config, saved, checkpoint, played, Path(folder))
            _print_figures(checkpoint, config.episodes, evaluation)
            written = save_evaluation(evaluation, Path(config.run), videos)
        named = len(env.behavior_names) != 1 or len(evaluation.figures) > 1
        board = TensorBoard(place)
        board.values(evaluation.samples, 0.0, scalars(evaluation, named))
        board.close()
    except OSError as error:
        raise UserError(f"the results of the evaluation cannot be written to {place} ({error.strerror})") from error
    print(f"{written}: {', '.join([RESULTS, *videos])}")
    if videos and video.SUFFIX == ".gif":
        print("For MP4, at any length and in full size: pip install 'outstep[video]'")
    return 0


def _evaluation(
    config: EvaluateConfig, saved: TrainConfig, checkpoint: Checkpoint, played: Sequence[PlayedEpisode], folder: Path
) -> tuple[Evaluation, dict[str, Path]]:
    """Returns the evaluation, and the videos by name, which lie in `folder` so far."""
    episodes: list[PlayedEpisode] = []
    videos: dict[str, Path] = {}
    for place, each in enumerate(played, start=1):
        if config.video:
            name, metrics = f"episode-{place}{video.SUFFIX}", dict(each.metrics)
            videos[name] = video.video_file(folder, metrics.pop(video.NUMBER))
            each = replace(each, metrics=metrics, video=name)
        episodes.append(each)
    evaluation = Evaluation(
        checkpoint=checkpoint.path.name,
        samples=sum(each["samples"] for each in checkpoint.state["behaviors"].values()),
        deterministic=config.deterministic,
        seed=config.seed,
        played_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        env=as_written(config if config.env else saved)["env"],
        episodes=episodes,
    )
    return evaluation, videos


def _print_figures(checkpoint: Checkpoint, episodes: int, evaluation: Evaluation) -> None:
    print(f"{checkpoint.path}: {episodes} episodes")
    for behavior, figures in evaluation.figures.items():
        if len(evaluation.figures) > 1:
            print(f"{behavior}: {episodes} episodes")
        for name, figure in figures.items():
            print(f"{name:>10}  {_spread(figure)}  min {figure.min:.4g}  max {figure.max:.4g}")
        if wins := evaluation.wins.get(behavior):
            share = f"{wins.won / wins.episodes:.0%} (95 %: {wins.low:.0%} to {wins.high:.0%})"
            print(f"{'wins':>10}  {wins.won} of {wins.episodes}  {share}")


def _spread(figure: Figure) -> str:
    if figure.deviation is None or figure.low is None or figure.high is None:
        return f"mean {figure.mean:.4g}"
    return f"mean {figure.mean:.4g} ± {(figure.high - figure.low) / 2:.2g} (95 %)  deviation {figure.deviation:.4g}"


class _Progress:
    """Says on stderr how far an evaluation has come: on a terminal in one line, else in a line now and then."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._terminal = sys.stderr.isatty()
        self._played: list[PlayedEpisode] = []
        self._said = time.monotonic()

    def add(self, episode: PlayedEpisode) -> None:
        """Counts an episode that has ended."""
        self._played.append(episode)
        if not self._terminal and time.monotonic() < self._said + _PROGRESS_SECONDS:
            return
        self._said = time.monotonic()
        behaviors = {each.behavior for each in self._played}
        reward = sum(each.reward for each in self._played) / len(self._played)
        text = f"{len(self._played)} of {self._episodes * len(behaviors)} episodes, mean reward {reward:.4g}"
        print(f"\r{text}\x1b[K" if self._terminal else f"{text}\n", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clears the line."""
        if self._terminal and self._played:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


_PROGRESS_SECONDS = 10.0


if __name__ == "__main__":
    sys.exit(main())
