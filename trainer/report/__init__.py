"""`python -m trainer.report`: one HTML page that shows a run."""
