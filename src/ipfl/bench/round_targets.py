"""The figures promised of a round, judged where what they speak of was measured."""

from collections.abc import Sequence
from typing import Any

from ipfl.bench.targets import Target, target

FASTER = {"cifar": 2.5, "digits-9": 20.0}
"""Times faster than research_loop, a whole iPFL round."""
FASTER_ON_ONE_CORE = {"cifar": 1.5, "digits-9": 8.0}
"""Likewise the training alone, both on one core."""
AHEAD = {"cifar": 1.0, "digits-9": 2.0, "digits-100": 2.0}
"""Times faster than the best peer, a whole FedAvg round."""
MARKET_FASTER = 200.0
MARKET_SECONDS = 5.0
GRAM_SHARE = 0.6


def round_targets(found: Sequence[dict[str, Any]], limits: dict[str, Any]) -> list[Target]:
    """Every promise about a workload that was measured, with what it is compared with."""
    targets: list[Target] = []
    for entry in found:
        name = entry["name"]
        medians = {system["system"]: system["median"] for system in entry["systems"]}
        if name.startswith("market-"):
            targets += _market(name, entry, medians, limits)
        else:
            targets += _training(name, entry, medians)
    return targets


def _training(name: str, entry: dict[str, Any], medians: dict[str, Any]) -> list[Target]:
    targets = []
    if name in FASTER and {"ipfl", "research_loop"} <= medians.keys():
        times = medians["research_loop"]["total"] / medians["ipfl"]["total"]
        what = f"{name}: an iPFL round, times faster than research_loop"
        targets.append(target(what, times, FASTER[name], at_least=True))
    alone = "ipfl (one core)", "research_loop (one core)"
    if name in FASTER_ON_ONE_CORE and medians.keys() >= set(alone):
        times = medians[alone[1]]["train"] / medians[alone[0]]["train"]
        what = f"{name}: its training on one core, times faster than research_loop"
        targets.append(target(what, times, FASTER_ON_ONE_CORE[name], at_least=True))
    peers = {
        system["system"]: system["median"]["total"]
        for system in entry["systems"]
        if system["method"] == "fedavg" and system["system"] != "fedavg"
    }
    if name in AHEAD and "fedavg" in medians and peers:
        best = min(peers, key=lambda peer: peers[peer])
        times = peers[best] / medians["fedavg"]["total"]
        what = f"{name}: a FedAvg round, times faster than the best of {len(peers)} peers ({best})"
        targets.append(target(what, times, AHEAD[name], at_least=True))
    return targets


def _market(
    name: str, entry: dict[str, Any], medians: dict[str, Any], limits: dict[str, Any]
) -> list[Target]:
    targets = []
    if name == "market-200" and {"ipfl", "research_loop"} <= medians.keys():
        times = medians["research_loop"]["market"] / medians["ipfl"]["market"]
        what = "the market step at m = 200, times faster than research_loop"
        targets.append(target(what, times, MARKET_FASTER, at_least=True))
    if name == "market-1000" and "ipfl" in medians:
        ours = medians["ipfl"]
        targets.append(target("the market step at m = 1000, seconds", ours["market"], MARKET_SECONDS))
        flops = next(system["gram_flops"] for system in entry["systems"] if system["system"] == "ipfl")
        share = flops * 1e-9 / ours["distances"] / max(limits["numpy_gflops"].values())
        what = "distances at m = 1000, share of the measured peak of a matrix product"
        targets.append(target(what, share, GRAM_SHARE, at_least=True))
    return targets
