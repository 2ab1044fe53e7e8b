"""Metrics and contact sheets."""
