"""`outstep report`: one HTML page that shows a run."""
