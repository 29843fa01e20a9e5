"""`outstep check`: a first look at a game, before anything is trained."""
