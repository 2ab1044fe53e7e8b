"""Adapters to other models and programs, each imported only when it is needed."""
