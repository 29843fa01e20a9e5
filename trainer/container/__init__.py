"""`outstep container`: the entry point of a managed container."""
