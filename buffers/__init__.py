"""What is remembered: linked experience rows, and the replay and rollout drawn from them."""
