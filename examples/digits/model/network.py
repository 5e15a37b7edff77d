"""A small convolutional network with batch normalization."""

from typing import Any

from torch import nn


def network(hyperparameters: dict[str, Any]) -> nn.Module:
    """Inputs (n, 1, 8, 8), outputs (n, 10) logits."""
    width, dropout = int(hyperparameters["width"]), float(hyperparameters["dropout"])
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width * 16, 10),
    )
