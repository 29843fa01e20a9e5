"""The training run: collector, learner, and what connects them."""
