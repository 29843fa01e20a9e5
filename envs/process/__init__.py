"""What any kind of environment needs of the operating system: processes, messages and memory."""
