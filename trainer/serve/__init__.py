"""`outstep serve`: an HTTP endpoint for a trained policy."""
