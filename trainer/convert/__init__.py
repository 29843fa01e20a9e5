"""`outstep convert`: an ML-Agents YAML becomes an experiment."""
