"""Stands in for a grid's worker: does what the name of a run's folder says, and trains nothing."""

import os
import signal
import time


def work(pipe, plugin_files=()):
    while (job := pipe.recv()) is not None:
        _, folder = job
        what = folder.rsplit("/", 2)[-2]
        pipe.send(("round", 1))
        if what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exits":
            os._exit(3)
        if what == "sleeps":
            time.sleep(60)
        pipe.send(("failed", "no luck") if what == "fails" else ("done", "run"))
