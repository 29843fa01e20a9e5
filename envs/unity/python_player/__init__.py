"""Our own player: serves any Gymnasium environment as a Unity build would, over the real ML-Agents protocol.

`python -m envs.unity.python_player env=bubble_shooter --mlagents-port 5004`; `options` lists all that it takes.
"""

from envs.unity.python_player.launcher import write_launcher

__all__ = ["write_launcher"]
