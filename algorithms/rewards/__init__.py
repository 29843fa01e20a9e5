"""Reward signals beside the environment's own, and their sum."""
