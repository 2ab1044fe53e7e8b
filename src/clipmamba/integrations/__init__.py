"""Adapters to models and programs of others, each imported only when it is asked for."""
