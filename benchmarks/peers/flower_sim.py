"""FedAvg on Flower's own simulation engine: `run_simulation` with Ray, one core for each worker.

Training is that of plain_torch.py (flower_worker.py), on tensors that each worker keeps; the common model is judged by
the server's own evaluation after every round. No telemetry is sent, and Ray listens on the loopback address only.
"""

import os

os.environ |= {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback address instead of the machine's own, here too
}

import logging
import time

from flower_worker import client_app
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from meter import Meter
from workload import count_correct


class Summed(FedAvg):
    """FedAvg that keeps the sums of its participants' counts."""

    counts: dict[str, int]

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        metrics = [reply.content["metrics"] for reply in replies if reply.has_content()]
        self.counts = {name: int(sum(entry[name] for entry in metrics)) for name in ("images", "steps")}
        self.counts["replies"] = len(metrics)
        return super().aggregate_train(server_round, replies)


def main() -> None:
    meter = Meter("flower_sim", packages=("flwr", "ray"), processes=True)
    work, model = meter.work, meter.work.model()
    test_x, test_y = work.test()
    strategy = Summed(
        fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=work.m, min_available_nodes=work.m
    )
    began = {"wall": 0.0, "cpu": 0.0}

    def next_round() -> None:
        meter.begin()
        began.update(wall=time.perf_counter(), cpu=meter.cpu())

    def after(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Called before the first round and after each: times the training, evaluates, waits for the next."""
        if server_round == 0:
            meter.ready()
            next_round()
            return None
        meter.add("train", time.perf_counter() - began["wall"], meter.cpu() - began["cpu"])
        if strategy.counts["replies"] != work.m:
            raise RuntimeError(f"{strategy.counts['replies']} replies of {work.m} participants")
        meter.count(images_trained=strategy.counts["images"], steps=strategy.counts["steps"])
        if meter.evaluates:
            with meter.part("evaluate"):
                model.load_state_dict(arrays.to_torch_state_dict())
                meter.say(accuracy=count_correct(model, test_x, test_y) / len(test_y))
                meter.count(images_evaluated=len(test_y))
        meter.end()
        if len(meter.finished) == meter.rounds_in_all:
            meter.report(workers=cores)  # while the workers are still there to be counted
        else:
            next_round()
        return None

    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        config = ConfigRecord({"folder": str(meter.arguments.folder.resolve())})
        strategy.start(
            grid,
            initial_arrays=ArrayRecord(model.state_dict()),
            num_rounds=meter.rounds_in_all,
            train_config=config,
            evaluate_fn=after,
        )

    cores = meter.arguments.threads or os.cpu_count() or 1
    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=work.m,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {
                "num_cpus": cores,
                "include_dashboard": False,
                "log_to_driver": False,
                "logging_level": logging.ERROR,
                "_node_ip_address": "127.0.0.1",
            },
        },
    )


if __name__ == "__main__":
    main()
