"""More than one machine: hosts that collect, and what brings their rows to the learner's."""
