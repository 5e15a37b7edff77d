"""Training: Adam, a rate that falls along half a cosine, and pictures shifted by up to one pixel."""

from typing import Any

import torch
from torch.nn import functional

BATCH = 32
PAD = 1  # pixels that a picture may be shifted by


def train(context: Any) -> None:
    """One pass after another; goes on where a stopped run ended."""
    network = context.network()
    rate = context.hyperparameters["learning_rate"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, context.epochs)
    inputs, labels = torch.tensor(context.training.inputs), torch.tensor(context.training.labels)
    for _ in context.loop(model=network, optimizer=optimizer, scheduler=scheduler):
        network.train()
        total = 0.0
        for places in torch.randperm(len(labels)).split(BATCH):
            if len(places) == 1:
                continue  # batch normalization needs two
            loss = functional.cross_entropy(network(shifted(inputs[places])), labels[places], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(places)
        scheduler.step()
        accuracy, loss_of_validation = validate(context, network)
        context.report(accuracy=accuracy, loss=loss_of_validation, **{"training.loss": total / len(labels)})


def shifted(pictures: torch.Tensor) -> torch.Tensor:
    """Each picture moved by up to PAD pixels in both directions; what comes in from outside is background."""
    height, width = pictures.shape[2:]
    background = float(pictures.min())
    padded = functional.pad(pictures, (PAD,) * 4, value=background)
    down = torch.randint(0, 2 * PAD + 1, (len(pictures), 1, 1))
    right = torch.randint(0, 2 * PAD + 1, (len(pictures), 1, 1))
    rows = torch.arange(height).view(1, -1, 1) + down
    columns = torch.arange(width).view(1, 1, -1) + right
    return padded[torch.arange(len(pictures)).view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


def validate(context: Any, network: torch.nn.Module) -> tuple[float, float]:
    """Accuracy and loss on the validation part."""
    network.eval()
    with torch.inference_mode():
        outputs = network(torch.tensor(context.validation.inputs))
        labels = torch.tensor(context.validation.labels)
        return float((outputs.argmax(1) == labels).float().mean()), float(functional.cross_entropy(outputs, labels))
