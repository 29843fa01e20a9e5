"""Learning from demonstrations: behavioral cloning, and demonstrations as tensors."""
