"""Unity players, spoken to in the ML-Agents protocol."""

# First of all: nothing of mlagents_envs imports on a current Python before this has been.
from envs.unity.protocol import messages as messages
