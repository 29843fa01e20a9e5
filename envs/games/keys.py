"""Codes of the keys that people play with: SDL's, which pygame 2 and Gymnasium's `get_keys_to_action` go by."""

SPACE = 32
RIGHT, LEFT, DOWN, UP = range(1073741903, 1073741907)
