"""`outstep export run=runs/… to=Snoopy.onnx`: writes a trained policy as a model that Unity opens.

The inputs and outputs of a model are described in `algorithms.onnx.contract`. Training runs write models of their
checkpoints themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from envs.process.whole_files import write_whole
from envs.spec import UserError
from trainer.checkpoint import Checkpoint
from trainer.config.command import run_command
from trainer.config.saved import load_config
from trainer.config.schema import ExportConfig
from trainer.export.model_file import SUFFIX, exported_model, model_file
from trainer.saved_policy import load_checkpoint, saved_specs, trained_policy


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a trained policy as an ONNX model, which Unity opens."""
    return run_command(argv, ExportConfig, "export", _check, _export)


def _check(config: ExportConfig) -> None:
    load_config(config.run, config.trust)
    _files(config, load_checkpoint(config.run, config.checkpoint))


def _export(config: ExportConfig) -> int:
    saved, checkpoint = load_config(config.run, config.trust), load_checkpoint(config.run, config.checkpoint)
    specs = saved_specs(checkpoint)
    for behavior, path in _files(config, checkpoint).items():
        content = exported_model(trained_policy(saved, checkpoint, specs[behavior]), saved)
        try:
            write_whole(path, content)
        except OSError as error:
            raise UserError(f"to={config.to}: {path} cannot be written ({error.strerror}): name another") from error
        print(f"{path}: {behavior} of {checkpoint.path}")
    if find_spec("onnxruntime") is None:
        print("Not compared with the policy: that needs onnxruntime (pip install 'outstep[serve]').")
    return 0


def _files(config: ExportConfig, checkpoint: Checkpoint) -> dict[str, Path]:
    """Returns the file to write for each behavior."""
    behaviors = sorted(checkpoint.state["behaviors"])
    if not behaviors:
        raise UserError(f"{checkpoint.path} holds no behavior: the run has learned nothing yet")
    to = Path(config.to)
    if to.suffix != SUFFIX:
        if to.is_file():
            raise UserError(f"to={config.to} is a file: name one that ends in {SUFFIX}, or a folder")
        return {behavior: to / model_file(behavior) for behavior in behaviors}
    if to.is_dir():
        raise UserError(f"to={config.to} is a folder: name a file, or a folder without {SUFFIX}")
    if len(behaviors) > 1:
        several = ", ".join(behaviors)
        raise UserError(f"to={config.to} is one file, but the run has the behaviors {several}: name a folder")
    return {behaviors[0]: to}


if __name__ == "__main__":
    sys.exit(main())
