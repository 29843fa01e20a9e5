"""The Hydra configuration that travels with the package."""
