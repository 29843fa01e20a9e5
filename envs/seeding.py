"""Seeds of episodes: what an environment draws depends on the run's seed, the instance and the episode alone."""

from __future__ import annotations

import numpy as np


def episode_seed(seed: int, instance: int, episode: int) -> int:
    """Returns the seed of one reset, in [0, 2**31): the same for the same three numbers, unrelated for any others."""
    return int(np.random.SeedSequence((seed, instance, episode)).generate_state(1)[0] >> 1)
