"""`outstep evaluate`: plays episodes with a trained policy."""
