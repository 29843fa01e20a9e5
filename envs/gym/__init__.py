"""Gymnasium environments: workers that step them, and managers."""
