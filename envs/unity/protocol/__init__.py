"""The ML-Agents protocol: messages, and the server that a player talks to."""
