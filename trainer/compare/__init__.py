"""`outstep compare`."""
