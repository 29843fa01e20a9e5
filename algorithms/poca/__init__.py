"""Policies of agents that are paid as a group: MA-POCA."""
