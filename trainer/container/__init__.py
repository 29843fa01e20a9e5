"""`python -m trainer.container`: the entry point of a managed container."""
