"""Runnable benchmarks: each prints a table, and one JSON object with --json."""
