"""`python -m trainer.record`: records demonstrations."""
