"""What learns: policies, distributions, networks, PPO, SAC and reward signals."""
