"""`outstep export`: writes a trained policy as an ONNX model."""
