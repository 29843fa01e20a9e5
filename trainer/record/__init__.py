"""`outstep record`: records demonstrations."""
