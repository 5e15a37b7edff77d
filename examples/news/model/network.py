"""Five linear layers, with layer normalization and dropout after each but the last."""

from typing import Any

from model.features import COLUMNS
from torch import nn

CLASSES = 5


def network(hyperparameters: dict[str, Any]) -> nn.Module:
    """Inputs (n, COLUMNS), outputs (n, 5) logits."""
    width, narrow = int(hyperparameters["width"]), int(hyperparameters["narrow"])
    dropout = float(hyperparameters["dropout"])
    sizes = [COLUMNS, width, width, narrow, narrow]
    layers: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(narrow, CLASSES))
