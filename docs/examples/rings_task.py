"""A task: points on three rings, in ten dimensions of which two matter."""

import numpy as np

from ipfl.data.sources import Source
from ipfl.plugins import task
from ipfl.seeding import generator


@task("rings", "points on three rings, in ten dimensions", num_participants=6)
def rings(seed: int) -> Source:
    random = generator(seed, -1, -1, "partition")
    y = np.arange(900) % 3
    angle = random.uniform(0, 2 * np.pi, 900)
    radius = 1.0 + y + random.normal(0, 0.15, 900)
    x = random.normal(0, 1, (900, 10))
    x[:, 0], x[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    return Source(x.astype(np.float32), y.astype(np.int64), ("inner", "middle", "outer"))
