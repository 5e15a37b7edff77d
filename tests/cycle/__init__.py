"""The whole cycle played with the toy project; the acts stand in their order when the three pipelines are imported."""

from tests.cycle import data, model, deployment  # isort: skip

__all__ = ["data", "deployment", "model"]
