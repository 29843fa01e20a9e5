"""Accelerators: what makes updates faster and changes no result."""
