"""`python -m trainer.export`: writes a trained policy as an ONNX model."""
