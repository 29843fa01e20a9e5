"""What a run logs: metrics and their writers, messages, and the display."""
