"""What can be set, how it is composed, and how errors in it are reported."""
