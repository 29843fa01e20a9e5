"""Outstep trains game agents from many Unity players or Gymnasium environments at once; none waits for another.

```
run = outstep.train(env="CartPole-v1", algorithm="ppo", stop={"samples": 50_000})
action, _ = run.policy().predict(observation)
```

`docs/python.md` shows more. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

import importlib
import os.path
import sys
from typing import TYPE_CHECKING, Any

# A folder on the path may bear the name of one of our packages, so the path is put in order before the next import.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from envs.own_folders import ours_first

ours_first()

if TYPE_CHECKING:
    from envs.spec import UserError
    from outstep.policy import Policy
    from outstep.results import Evaluation, Metric
    from outstep.run import Run, load, train

__all__ = ["Evaluation", "Metric", "Policy", "Run", "UserError", "__version__", "load", "train"]

__version__ = "0.1.0"

_PLACES = {
    "UserError": "envs.spec",
    "Policy": "outstep.policy",
    "Evaluation": "outstep.results",
    "Metric": "outstep.results",
    "Run": "outstep.run",
    "load": "outstep.run",
    "train": "outstep.run",
}
"""The modules of what is imported when it is first used, so that the command `outstep` answers at once."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(importlib.import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
