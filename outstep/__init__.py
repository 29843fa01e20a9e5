"""Outstep trains game agents from many Unity players or Gymnasium environments at once; none waits for another.

```
run = outstep.train(env="CartPole-v1", algorithm="ppo", stop={"samples": 50_000})
action, _ = run.policy().predict(observation)
```

`docs/python.md` shows more. Nothing here imports torch before it is needed.
"""

import os.path
import sys

# A folder on the path may bear the name of one of our packages, so the path is put in order before the next import.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from envs.own_folders import ours_first

ours_first()

from envs.spec import UserError
from outstep.policy import Policy
from outstep.results import Evaluation, Metric
from outstep.run import Run, load, train

__all__ = ["Evaluation", "Metric", "Policy", "Run", "UserError", "__version__", "load", "train"]

__version__ = "0.1.0"
