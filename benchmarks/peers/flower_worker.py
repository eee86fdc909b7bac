"""What Flower's workers do: one participant's steps of a round, on tensors that each worker keeps."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from plain_torch import train
from torch import nn
from workload import Workload, read

client_app = ClientApp()


@cache
def opened(folder: str) -> tuple[Workload, nn.Module]:
    """Each worker reads the workload and builds the model once."""
    work = read(Path(folder))
    return work, work.model()


@cache
def examples(folder: str, participant: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each worker keeps the tensors of the participants it has met."""
    return opened(folder)[0].train(participant)


@client_app.train()
def train_one(message: Message, context: Context) -> Message:
    """Train the common model on one participant's data."""
    config = message.content["config"]
    folder, participant = str(config["folder"]), int(context.node_config["partition-id"])
    work, model = opened(folder)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = examples(folder, participant)
    random = np.random.default_rng([work.settings["seed"], int(config["server-round"]), participant])
    images, steps = train(work, model, x, y, random)
    metrics = {"num-examples": len(y), "images": images, "steps": steps, "threads": torch.get_num_threads()}
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
    return Message(content=RecordDict(content), reply_to=message)
