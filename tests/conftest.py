"""Every test process, and every process that it starts, computes with one thread: the suite runs one of them a core."""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
