"""A training run: collector, learner and all that stands around them. Never imports torch at its top."""
