"""Interoperability of the scan: ONNX, and other packages' Mamba."""
