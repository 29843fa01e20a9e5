"""What a run tells: metrics, logs, events and the display."""
