"""`outstep demos`: what demonstration files hold, and the demonstrations of a run."""
