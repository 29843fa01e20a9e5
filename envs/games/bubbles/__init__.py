"""The bubble shooter."""
