"""PettingZoo environments: games of several agents, who act together (parallel) or in turns (AEC)."""
