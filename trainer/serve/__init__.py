"""`python -m trainer.serve`: an HTTP endpoint for a trained policy."""
