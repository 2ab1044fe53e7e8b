"""The scan in other programs: ONNX, and other packages' Mamba."""
