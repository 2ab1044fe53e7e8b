"""Thin adapters to other packages, each imported only when it is asked for."""
