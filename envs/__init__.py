"""What acts back: specs, managers, workers, Gymnasium environments and games."""

from envs.own_folders import install

install()
