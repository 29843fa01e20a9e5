"""What acts back: specs, managers, workers, Gymnasium environments and games."""
