"""`outstep sweep`: a run for each combination of values, or a search of the best settings."""
