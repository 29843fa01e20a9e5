"""The parts that policies and critics are made of."""
