"""Games and toys, registered with Gymnasium: `envs.games:Basic-v0`, `BubbleShooter-v0`, `Recall-v0`, `Corridor-v0`,
`Gather-v0`.
"""

from gymnasium.envs.registration import register

register("Basic-v0", entry_point="envs.games.basic:Basic", disable_env_checker=True)
register("BubbleShooter-v0", entry_point="envs.games.bubbles.env:BubbleShooter", disable_env_checker=True)
register("Recall-v0", entry_point="envs.games.recall:Recall", disable_env_checker=True)
register("Corridor-v0", entry_point="envs.games.corridor:Corridor", disable_env_checker=True)
register("Gather-v0", entry_point="envs.games.gather:Gather", disable_env_checker=True)
