"""`python -m trainer.evaluate`: plays episodes with a trained policy."""
