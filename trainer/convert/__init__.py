"""`python -m trainer.convert`: an ML-Agents YAML becomes an experiment."""
