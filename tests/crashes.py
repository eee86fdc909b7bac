"""kill -9 at every numbered point of a run, at points of its recovery, and at random times; then resume and compare.

A script: a process of its own, which imports everything once and forks for every trial, so that a trial costs what its
rounds cost. Prints its figures as JSON. `python tests/crashes.py --help`
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipfl
import tiny
from ipfl import faults
from ipfl.ledger import Ledger

KINDS = ("trader", "trader", "trader", "attacker")
ROUNDS = 6
EVENTS = [
    {"round_index": 2, "participant_id": "c", "event": "join"},
    {"round_index": 4, "participant_id": "b", "event": "leave"},
]
TASK = tiny.task(len(KINDS))


def config(rounds: int = ROUNDS) -> ipfl.Config:
    """Subsidised, so that three accounts take part in every sale; one joins late and one leaves."""
    market = {"lam": 0.5, "eta": 2.0, "rule": "subsidised"}
    return tiny.config(
        KINDS, rounds=rounds, market=market, membership=EVENTS, engine={"workers": 1, "block": 1}
    )


def go(out: Path, rounds: int) -> None:
    """Start the run, go on with it, or replace what did not begin: what a person would do."""
    if (out / "config.toml").exists():
        ipfl.resume(out, task=TASK)
    else:
        ipfl.run(config(rounds), task=TASK, out=out, force=True)


def forked(work: Callable[[], None]) -> int:
    """Do something in a process of its own; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as problem:  # the parent sees the code, a person the text
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """How it ended: its exit code, or less than zero if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(number: int) -> Callable[[str], None]:
    """What kills this process at its point of a number."""
    passed = 0

    def tell(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def points_of(out: Path, rounds: int) -> list[str]:
    """The names of all points of an undisturbed run."""
    record = out.with_name("points")

    def work() -> None:
        names: list[str] = []
        faults.arm(names.append)
        go(out, rounds)
        record.write_text("\n".join(names))

    assert ended(forked(work)) == 0
    return record.read_text().split("\n")


def outcome(out: Path) -> dict[str, Any]:
    """What must not differ: head and entries, models, states, receipts, and all tables, times aside."""
    found = tiny.contents(out)
    with Ledger.open(out / "ledger.db") as ledger:
        found["head"] = ledger.head()
    text = repr(sorted((name, repr(content)) for name, content in found.items()))
    return {"head": found["head"], "all": hashlib.sha256(text.encode()).hexdigest()}


def at_points(folder: Path, rounds: int, every: int, pairs: int, seed: int) -> dict[str, Any]:
    """Kill at every `every`-th point; for `pairs` of them kill the recovery too."""
    names = points_of(folder / "whole", rounds)
    expected = outcome(folder / "whole")
    chance = random.Random(seed)
    trials: list[tuple[int, ...]] = [(k,) for k in range(1, len(names) + 1, every)]
    trials += [(chance.randint(1, len(names)), chance.randint(1, 40)) for _ in range(pairs)]
    kills, wrong, out = 0, list[str](), folder / "trial"
    for numbers in trials:
        shutil.rmtree(out, ignore_errors=True)
        for number in numbers:

            def work(number: int = number) -> None:
                faults.arm(killed_at(number))
                go(out, rounds)

            kills += ended(forked(work)) == -signal.SIGKILL
        if ended(forked(lambda: go(out, rounds))) != 0 or outcome(out) != expected:
            wrong.append(f"{numbers}: {names[numbers[0] - 1]}")
    return {
        "points": len(names),
        "kinds": len(set(names)),
        "trials": len(trials),
        "kills": kills,
        "wrong": wrong,
    }


def at_random(folder: Path, rounds: int, kills_wanted: int, seed: int) -> dict[str, Any]:
    """Kill at random times, going on after each, run after run, until there were enough."""
    chance = random.Random(seed)
    started = time.monotonic()
    assert ended(forked(lambda: go(folder / "whole", rounds))) == 0
    seconds = time.monotonic() - started
    expected = outcome(folder / "whole")
    kills, runs, wrong, out = 0, 0, list[str](), folder / "trial"
    while kills < kills_wanted:
        shutil.rmtree(out, ignore_errors=True)
        while True:
            child = forked(lambda: go(out, rounds))
            time.sleep(chance.uniform(0, seconds / 3))
            os.kill(child, signal.SIGKILL)
            code = ended(child)
            kills += code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        runs += 1
        if code != 0 or outcome(out) != expected:
            wrong.append(f"run {runs}: exit code {code}")
    return {"runs": runs, "kills": kills, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th point")
    parser.add_argument("--pairs", type=int, default=0, help="trials in which the recovery is killed too")
    parser.add_argument("--random", type=int, default=0, help="kills at random times, instead of at points")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        os.environ["IPFL_OPERATOR_KEY"] = str(Path(name) / "operator.key")
        folder = Path(name)
        if options.random:
            found = at_random(folder, options.rounds, options.random, options.seed)
        else:
            found = at_points(folder, options.rounds, options.every, options.pairs, options.seed)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
