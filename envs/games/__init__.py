"""Two games, registered with Gymnasium: `envs.games:Basic-v0` and `envs.games:BubbleShooter-v0`."""

from gymnasium.envs.registration import register

register("Basic-v0", entry_point="envs.games.basic:Basic", disable_env_checker=True)
register("BubbleShooter-v0", entry_point="envs.games.bubble_shooter:BubbleShooter", disable_env_checker=True)
