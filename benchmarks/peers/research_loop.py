"""iPFL (arXiv 2505.02462) as research code does it, on the same data, model, steps and batch size.

One participant after another, each through a DataLoader over a data set that transforms image by image; an optimiser
rebuilt every round; the proximal term by flattening all parameters in the loss; evaluation counted sample by sample;
the market of research_market.py. Given a workload of the market alone, only the market is timed.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import research_market as market
import torch
from meter import Meter
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from workload import Workload, sgd


class Images(Dataset):
    """Pixels that become a normalised tensor one image at a time, as torchvision's transforms do it."""

    def __init__(self, work: Workload, pixels: np.ndarray, labels: np.ndarray):
        self.pixels, self.labels = pixels, labels
        channels = pixels.shape[1]
        self.pixel_max = work.settings["pixel_max"]
        self.mean = torch.full((channels, 1, 1), work.settings["mean"])
        self.std = torch.full((channels, 1, 1), work.settings["std"])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.to_tensor(self.pixels[index])
        return self.normalise(image), int(self.labels[index])

    def to_tensor(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels).contiguous().to(torch.float32).div(self.pixel_max)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        return image.clone().sub_(self.mean).div_(self.std)


def main() -> None:
    meter = Meter("research_loop", packages=("scipy",))
    market.quietly()
    if meter.work.settings["kind"] == "market":
        market_alone(meter)
    else:
        ipfl(meter)


def ipfl(meter: Meter) -> None:
    """Rounds of training, evaluation and the market."""
    work, settings = meter.work, meter.work.settings
    images, labels = np.asarray(work.array("images")), np.asarray(work.array("labels"))
    own = [work.rows(i) for i in range(work.m)]
    loaders = [
        DataLoader(Images(work, images[rows], labels[rows]), settings["batch_size"], shuffle=True)
        for rows in own
    ]
    test = Images(work, np.array(work.array("test_images")), np.array(work.array("test_labels")))
    test_loader = DataLoader(test, settings["batch_size"])
    weights = [class_weights(labels[rows], test.labels, settings["classes"]) for rows in own]
    models = [work.model() for _ in range(work.m)]
    initial = dict(work.model().state_dict())
    centres: list[torch.Tensor] | None = None
    for _ in meter.rounds():
        with meter.part("train"):
            for participant, model in enumerate(models):
                centre = None if centres is None else centres[participant]
                images_seen, steps = train(model, loaders[participant], settings, centre)
                meter.count(images_trained=images_seen, steps=steps)
        if meter.evaluates:
            with meter.part("evaluate"):
                accuracies = [
                    evaluate(model, test_loader, weight)
                    for model, weight in zip(models, weights, strict=True)
                ]
                meter.count(images_evaluated=len(models) * len(test))
            meter.say(accuracy=sum(accuracies) / len(accuracies))
        with meter.part("market"):
            states = [dict(model.state_dict()) for model in models]
            centres = settle(meter, states, initial, [len(rows) for rows in own])
    meter.report()


def train(
    model: nn.Module, loader: DataLoader, settings: dict[str, Any], centre: torch.Tensor | None
) -> tuple[int, int]:
    """One participant's steps of a round; how many images and steps they were."""
    model.train()
    optimiser = sgd(model, settings)
    pull = settings["lam"] / settings["eta"]
    images = 0
    for _, (x, y) in zip(range(settings["steps"]), endless(loader), strict=False):
        optimiser.zero_grad()
        loss = cross_entropy(model(x), y)
        if centre is not None:
            flattened = torch.cat([parameter.view(-1) for parameter in model.parameters()])
            loss = loss + pull / 2 * torch.sum((flattened - centre) ** 2)
        loss.backward()
        optimiser.step()
        images += len(y)
    return images, settings["steps"]


def endless(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


def evaluate(model: nn.Module, loader: DataLoader, weights: list[float]) -> float:
    """The weighted share of images that are right, counted one by one."""
    model.eval()
    right, total = 0.0, 0.0
    with torch.no_grad():
        for x, y in loader:
            _, predicted = torch.max(model(x), 1)
            for place, label in enumerate(y):
                total += weights[label.item()]
                if predicted[place] == label:
                    right += weights[label.item()]
    return right / total if total else 0.0


def class_weights(own: np.ndarray, test: np.ndarray, classes: int) -> list[float]:
    """How much a test image of each class counts, so that classes count as among one's own."""
    shares, there = np.bincount(own, minlength=classes), np.bincount(test, minlength=classes)
    return (shares / np.maximum(there, 1)).tolist()


def settle(
    meter: Meter, states: list[market.Model], initial: market.Model, sizes: list[int]
) -> list[torch.Tensor]:
    """One market step: the proxies that it ends with."""
    settings = meter.work.settings
    distance = market.distances(states, initial)
    graph = market.greedy_graph(
        distance, sizes, settings["valuation"], settings["export_cost"], settings["lam"]
    )
    payments = market.marginal_payments(distance, graph, sizes, settings["valuation"], settings["lam"])
    meter.say(trades=int(np.count_nonzero(payments)))
    return market.proxies(states, initial, graph, sizes, settings["eta"])


def market_alone(meter: Meter) -> None:
    """The market step of given models, part by part."""
    work = meter.work
    sizes = [int(size) for size in work.array("num_examples")]
    template = work.model()
    initial = dict(template.state_dict())
    states = []
    for row in np.asarray(work.array("params")):
        nn.utils.vector_to_parameters(torch.from_numpy(row.copy()), template.parameters())
        states.append({name: value.detach().clone() for name, value in template.state_dict().items()})
    for _ in meter.rounds():
        with meter.part("market"):
            settle(meter, states, initial, sizes)
    meter.report()


if __name__ == "__main__":
    main()
