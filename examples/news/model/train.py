"""Training: Adam with weight decay, and a rate that falls along half a cosine."""

from typing import Any

import torch
from torch.nn import functional

BATCH = 64
DECAY = 0.01
SMOOTHING = 0.05


def train(context: Any) -> None:
    """One pass after another; goes on where a stopped run ended."""
    network = context.network()
    rate = context.hyperparameters["learning_rate"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, context.epochs)
    inputs, labels = torch.tensor(context.training.inputs), torch.tensor(context.training.labels)
    for _ in context.loop(model=network, optimizer=optimizer, scheduler=scheduler):
        network.train()
        total = 0.0
        for places in torch.randperm(len(labels)).split(BATCH):
            loss = functional.cross_entropy(network(inputs[places]), labels[places], label_smoothing=SMOOTHING)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(places)
        scheduler.step()
        accuracy, loss_of_validation = validate(context, network)
        context.report(accuracy=accuracy, loss=loss_of_validation, **{"training.loss": total / len(labels)})


def validate(context: Any, network: torch.nn.Module) -> tuple[float, float]:
    """Accuracy and loss on the validation part."""
    network.eval()
    with torch.inference_mode():
        outputs = network(torch.tensor(context.validation.inputs))
        labels = torch.tensor(context.validation.labels)
        return float((outputs.argmax(1) == labels).float().mean()), float(functional.cross_entropy(outputs, labels))
