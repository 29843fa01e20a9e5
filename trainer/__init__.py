"""A training run: collector, learner and all that stands around them. Never imports torch at its top."""

import os.path
import sys

# A folder on the path may bear the name of one of our packages, so the path is put in order before the next import.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from envs.own_folders import ours_first

ours_first()
