"""ML-Agents' `.demo` files, read and written."""
