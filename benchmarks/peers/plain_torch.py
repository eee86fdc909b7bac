"""FedAvg as a plain PyTorch loop: slices of resident tensors, torch.optim.SGD, one participant after another.

The floor for code that trains one after another: there is no data loader, no framework, no message.
"""

import numpy as np
import torch
from meter import Meter
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from workload import Workload, batches, count_correct, sgd


def main() -> None:
    meter = Meter("plain_torch")
    work, model = meter.work, meter.work.model()
    data = [work.train(participant) for participant in range(work.m)]
    test_x, test_y = work.test()
    theta = parameters_to_vector(model.parameters()).detach().clone()
    sizes = np.array([len(y) for _, y in data])
    for round_index in meter.rounds():
        with meter.part("train"):
            mean = torch.zeros_like(theta)
            for participant, (x, y) in enumerate(data):
                vector_to_parameters(theta.clone(), model.parameters())
                random = np.random.default_rng([work.settings["seed"], round_index, participant])
                images, steps = train(work, model, x, y, random)
                meter.count(images_trained=images, steps=steps)
                trained = parameters_to_vector(model.parameters()).detach()
                mean.add_(trained, alpha=sizes[participant] / sizes.sum())
            theta = mean
        if meter.evaluates:
            with meter.part("evaluate"):
                vector_to_parameters(theta.clone(), model.parameters())
                correct = count_correct(model, test_x, test_y)
                meter.count(images_evaluated=len(test_y))
                meter.say(accuracy=correct / len(test_y))
    meter.report()


def train(
    work: Workload, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, random: np.random.Generator
) -> tuple[int, int]:
    """One participant's steps of a round; how many images and steps they were."""
    model.train()
    optimiser = sgd(model, work.settings)
    plan = batches(len(y), work.settings["batch_size"], work.settings["steps"], random)
    for batch in plan:
        index = torch.from_numpy(batch)
        optimiser.zero_grad()
        cross_entropy(model(x[index]), y[index]).backward()
        optimiser.step()
    return sum(map(len, plan)), len(plan)


if __name__ == "__main__":
    main()
