"""`outstep push`: a run as a folder for a model hub, and its upload."""
