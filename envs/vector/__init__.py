"""Batched environments: one worker steps many instances in one call."""
