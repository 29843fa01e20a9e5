"""How a run begins: nobody imports torch before what takes time beside it has been started."""

import subprocess
import sys

import pytest

from trainer.config.compose import CONF

LEARNER = """
import trainer.runtime.start
def launch(config, folder, shared, resume):
    print("torch" in sys.modules)
    sys.exit()
trainer.runtime.start.CollectorProcess = launch
trainer.runtime.start.train(config, Path("."))
"""
COLLECTOR = """
import trainer.runtime.collector_host
class Instances:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def start(self):
        print("torch" in sys.modules)
        sys.exit()
type(config.env).make_manager = lambda *_: Instances()
from envs.spec import Lessons
from trainer.runtime.start import _share
shared = _share(config, None, Lessons(0, ()))
with trainer.runtime.collector_host.CollectorHost(config, Path("."), shared, None, None, None).open():
    pass
"""


@pytest.mark.parametrize("process", [LEARNER, COLLECTOR])
def test_games_start_before_torch_is_imported(process: str, tmp_path) -> None:
    code = f"""
import sys
from pathlib import Path
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
config = compose(["env=basic", "algorithm.buffer_memory_mib=1"], TrainConfig, "config")
{process}
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(CONF.parent)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
