"""Continuous deep learning: from raw data to a monitored service and round again."""

__version__ = "0.1.0"
