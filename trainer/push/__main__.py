"""`outstep push run=runs/… to=folder [repo=user/name]`: writes what a model hub takes of a run, and uploads it.

The folder holds an ONNX model for each behavior, `README.md` (the model card), `config.yaml` without secrets, and a
video if an evaluation of the same checkpoint has recorded one. For the Hugging Face Hub: `pip install 'outstep[hub]'`.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from algorithms.onnx.contract import Exported
from envs.spec import BehaviorSpec, UserError
from trainer.config.command import run_command
from trainer.config.errors import one_line
from trainer.config.saved import FILE, load_config
from trainer.config.schema import PushConfig
from trainer.data_files import parse_yaml
from trainer.evaluate.results import Evaluation, PlayedEpisode, load_evaluations
from trainer.export.model_file import SUFFIX, exported_model, model_file
from trainer.push.card import CARD, Published, model_card
from trainer.push.public import public
from trainer.saved_policy import load_checkpoint, trained_policy

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_VIDEO = "replay"
_WRITTEN = (CARD, FILE, f"{_VIDEO}.mp4", f"{_VIDEO}.gif")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a run as a folder for a model hub, with a model card, and uploads it."""
    return run_command(argv, PushConfig, "push", _check, _push)


def _check(config: PushConfig) -> None:
    load_config(config.run, config.trust)
    load_checkpoint(config.run, config.checkpoint)
    to = Path(config.to)
    if to.exists() and not to.is_dir():
        raise UserError(f"to={config.to} is a file: name a folder")
    others = [each.name for each in to.iterdir() if not _ours(each)] if to.exists() else []
    if others:
        raise UserError(f"to={config.to} holds {sorted(others)[0]}, which is not of a model: name a folder of its own")
    if config.repo is None:
        return
    if not _REPO.fullmatch(config.repo):
        raise UserError(f"repo={config.repo} must be a user or an organization, and a name: repo=user/name")
    if find_spec("huggingface_hub") is None:
        raise UserError("repo= needs huggingface_hub: pip install 'outstep[hub]'; without repo= the folder is written")


def _push(config: PushConfig) -> int:
    to = Path(config.to)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".pushing-", dir=to.parent, ignore_cleanup_errors=True) as name:
            files, left_out, evaluated = _write(config, Path(name))
            to.mkdir(exist_ok=True)
            for old in filter(_ours, to.iterdir()):
                old.unlink()
            for file in files:
                (Path(name) / file).replace(to / file)
    except OSError as error:
        raise UserError(f"to={config.to} cannot be written ({error.strerror}): name another folder") from error
    print(f"{to}: {', '.join(files)}")
    if left_out:
        print(f"{FILE} and {CARD} do without the values of {', '.join(left_out)}, which look like secrets.")
    if not evaluated:
        print(f"The card has no scores: outstep evaluate run={config.run} video=true, then push again.")
    if config.repo is not None:
        print(_upload(to, config.repo, config.private, files))
    return 0


def _write(config: PushConfig, folder: Path) -> tuple[list[str], list[str], bool]:
    """Writes all files; returns their names, the keys whose values were left out, and whether there are scores."""
    saved, checkpoint = load_config(config.run, config.trust), load_checkpoint(config.run, config.checkpoint)
    models: dict[str, Exported] = {}
    for behavior in sorted(checkpoint.state["behaviors"]):
        spec = BehaviorSpec.from_dict(checkpoint.state["behaviors"][behavior]["spec"])
        policy = trained_policy(saved, checkpoint, spec)
        models[model_file(behavior)] = Exported(spec, policy.state_size, saved.env.channels_last)
        (folder / model_file(behavior)).write_bytes(exported_model(policy, saved))
    settings, left_out = public(parse_yaml((Path(config.run) / FILE).read_bytes()))
    (folder / FILE).write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    found = [each for each in load_evaluations(Path(config.run)) if each[1].checkpoint == checkpoint.path.name]
    video = _copy_video(found, folder)
    published = Published(
        name=(config.repo or Path(config.run).absolute().name).split("/")[-1],
        repo=config.repo,
        models=models,
        samples={name: int(each["samples"]) for name, each in checkpoint.state["behaviors"].items()},
        evaluations=[evaluation for _, evaluation in found],
        video=video,
    )
    (folder / CARD).write_text(model_card(published, saved), encoding="utf-8")
    return [*models, CARD, FILE, *([video] if video else [])], left_out, bool(found)


def _copy_video(found: Sequence[tuple[Path, Evaluation]], folder: Path) -> str | None:
    """Copies the video of the episode in the middle, by reward, of the newest evaluation that has videos."""
    for place, evaluation in found:
        filmed = [each for each in evaluation.episodes if each.video and (place / Path(each.video).name).is_file()]
        if filmed:
            middle: PlayedEpisode = sorted(filmed, key=lambda each: each.reward)[len(filmed) // 2]
            name = Path(str(middle.video)).name
            shutil.copyfile(place / name, folder / f"{_VIDEO}{Path(name).suffix}")
            return f"{_VIDEO}{Path(name).suffix}"
    return None


def _ours(file: Path) -> bool:
    """Returns whether an earlier push may have written a file."""
    return file.is_file() and (file.name in _WRITTEN or file.suffix == SUFFIX)


def _upload(folder: Path, repo: str, private: bool, files: Sequence[str]) -> str:
    """Returns where on the hub it lies."""
    import huggingface_hub

    api = huggingface_hub.HfApi(library_name="outstep")
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=list(files), commit_message="Push a policy")
    except Exception as error:  # of many kinds
        raise UserError(
            f"repo={repo}: the upload failed ({one_line(error)[:300]}). {folder} is written: log in by `hf auth login` "
            "or set HF_TOKEN, and push again"
        ) from error
    return f"{api.endpoint}/{repo}"


if __name__ == "__main__":
    sys.exit(main())
