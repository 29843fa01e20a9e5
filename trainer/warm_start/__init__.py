"""Weights to begin with, `init=`: of a run of ours, and of ML-Agents' checkpoints."""
