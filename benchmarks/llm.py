"""Training adapters of one base: participants stacked, in groups, one by one, or swapped in and out of PEFT's model.

    python benchmarks/llm.py [--repeats 5] [--participants 1,8,32] [--gpu-only]

Small Llamas of random weights on one core: milliseconds per participant and step (median; ways take turns), and peak
memory beyond the loaded base. On a machine with CUDA also a base of the shape of Llama-2-7B with random weights
(made from its configuration, nothing is downloaded) in bfloat16, batches of 8 x 512 tokens, with and without
gradient checkpointing, where memory allows. Writes benchmarks/results/llm.json, and puts its table into
docs/language-models.md between <!-- llm --> and <!-- /llm --> (--show: from the stored figures, without measuring).
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipfl.bench.machine import forget_peak, machine_facts, peak_bytes, resident_bytes
from ipfl.config import LanguageConfig, TrainingConfig
from ipfl.learning.language import needed
from ipfl.learning.language.adapt import Pulls, adapt
from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.base import Base
from ipfl.learning.language.encode import Encoded
from ipfl.learning.language.layout import lay_out

RESULTS = Path(__file__).parent / "results" / "llm.json"
PAGE = Path(__file__).parent.parent / "docs" / "language-models.md"
BASES = {"hidden 64, 2 layers": (64, 2), "hidden 128, 2 layers": (128, 2)}
VOCABULARY, TOKENS, LABELLED, BATCH, STEPS = 2000, 60, 3, 16, 4
SEVEN_B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LANGUAGE = LanguageConfig(rank=8, alpha=16)
TRAINING = TrainingConfig(steps=STEPS, batch_size=BATCH, weight_decay=0.0)
LR = 1e-3
WAYS = ("stacked", "groups of 4", "one by one", "PEFT, swapped")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--participants", default="1,8,32")
    parser.add_argument("--gpu-only", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.show:
        put(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    if args.cell:
        name, m = json.loads(args.cell)
        print(json.dumps(cell(name, m, args.repeats)))
        return
    rows = []
    for name in () if args.gpu_only else BASES:
        for m in map(int, args.participants.split(",")):
            row = in_a_process([name, m], args.repeats)
            rows.append(row)
            show(row)
    gpu = seven_b(args.repeats) if torch.cuda.is_available() else None
    if gpu is None:
        print("no CUDA device here: the base of the shape of Llama-2-7B was not run")
    content = {
        "date": date.today().isoformat(),
        "machine": machine_facts() | {name: needed_version(name) for name in ("transformers", "peft")},
        "repeats": args.repeats,
        "shape": {
            "tokens": TOKENS,
            "labelled": LABELLED,
            "batch": BATCH,
            "steps": STEPS,
            "rank": LANGUAGE.rank,
        },
        "rows": rows,
        "gpu": gpu,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    put(content)


def put(content: dict[str, Any]) -> None:
    """The table, printed and put into the page."""
    lines = [
        "| base | participants | "
        + " | ".join(f"{way}, ms" for way in WAYS)
        + " | peak MB beyond the base, in turn |",
        "|---|---:|" + "---:|" * len(WAYS) + "---|",
    ]
    for row in content["rows"]:
        times = " | ".join(f"{row['ways'][way]['cpu_ms']:.1f}" for way in WAYS)
        peaks = ", ".join(f"{row['ways'][way]['peak_bytes'] / 1e6:.0f}" for way in WAYS)
        lines.append(f"| {row['base']} | {row['participants']} | {times} | {peaks} |")
    if content["gpu"]:
        lines += [
            "",
            f"| Llama-2-7B's shape on {content['gpu']['device']}: group | checkpointing | s per step | peak GB |",
        ]
        lines.append("|---:|---|---:|---:|")
        for row in content["gpu"]["rows"]:
            found = ["out of memory", ""]
            if "seconds_per_step" in row:
                found = [f"{row['seconds_per_step']:.2f}", f"{row['peak_bytes'] / 1e9:.1f}"]
            lines.append(f"| {row['group']} | {row['checkpointing']} | {found[0]} | {found[1]} |")
    table = "\n".join(lines)
    print(table)
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile("<!-- llm -->.*?<!-- /llm -->", re.DOTALL)
    PAGE.write_text(inside.sub(lambda _: f"<!-- llm -->\n{table}\n<!-- /llm -->", page), encoding="utf-8")


def needed_version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def in_a_process(which: list[Any], repeats: int) -> dict[str, Any]:
    """One base and number of participants in a process of its own, whose memory is nobody else's."""
    command = [sys.executable, __file__, "--cell", json.dumps(which), "--repeats", str(repeats)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(row: dict[str, Any]) -> None:
    print(f"{row['base']}, {row['participants']} participants ({row['adapter_params']:,} numbers each)")
    for way, found in row["ways"].items():
        print(
            f"  {way:<16}{found['cpu_ms']:>9.1f} ms CPU{found['wall_ms']:>9.1f} ms per participant and step"
            f"{found['peak_bytes'] / 1e6:>9.0f} MB",
            flush=True,
        )


def cell(name: str, m: int, repeats: int) -> dict[str, Any]:
    """All ways for one base and one number of participants."""
    torch.set_num_threads(1)
    hidden, layers = BASES[name]
    shape = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
    base, other = (random_base(shape | {"num_attention_heads": 4}, VOCABULARY) for _ in range(2))
    layout, theta_0 = lay_out(base.model, LANGUAGE, 0)
    adapters = Adapters(base.model, layout)
    plans = [rows_of(index, BATCH, TOKENS, VOCABULARY) for index in range(m)]
    theta = torch.from_numpy(np.tile(theta_0, (m, 1)))
    work: dict[str, Callable[[], torch.Tensor]] = {
        way: (lambda size=size: in_groups(base, adapters, theta, plans, size))
        for way, size in zip(WAYS[:3], (m, 4, 1), strict=True)
    }
    swapped = by_peft(other, layout, theta, plans)
    work[WAYS[3]] = swapped
    reference = work["one by one"]()
    ways: dict[str, dict[str, Any]] = {}
    for way, run in work.items():
        apart = float((run() - reference).abs().max())
        forget_peak()
        before = resident_bytes()
        run()
        ways[way] = {"apart": apart, "peak_bytes": max(0, peak_bytes() - before), "cpu": [], "wall": []}
    for _ in range(repeats):
        for way, run in work.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            ways[way]["wall"].append((time.perf_counter() - wall) * 1000 / (m * STEPS))
            ways[way]["cpu"].append((time.process_time() - cpu) * 1000 / (m * STEPS))
    for found in ways.values():
        found["cpu_ms"], found["wall_ms"] = (statistics.median(found[kind]) for kind in ("cpu", "wall"))
    return {"base": name, "participants": m, "adapter_params": layout.num_params, "ways": ways}


def random_base(shape: dict[str, int], vocabulary: int, device: str = "cpu", **options: Any) -> Base:
    """A Llama of random weights; no tokenizer is needed for rows of random tokens."""
    transformers = needed.transformers()
    config = transformers.LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=False, **shape)
    with needed.quietly(), torch.device(device):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, **options)
    return Base(model.requires_grad_(False).eval(), None, "random", "", 0, True)


def rows_of(index: int, batch: int, tokens: int, vocabulary: int, steps: int = STEPS) -> list[list[Encoded]]:
    """A participant's batches, of random tokens."""
    random = np.random.default_rng(index)
    return [
        [Encoded(random.integers(1, vocabulary, tokens), tokens - LABELLED) for _ in range(batch)]
        for _ in range(steps)
    ]


def in_groups(
    base: Base, adapters: Adapters, theta: torch.Tensor, plans: list[list[list[Encoded]]], size: int
) -> torch.Tensor:
    """Everybody's steps, `size` participants at a time."""
    result = theta.clone()
    for start in range(0, len(plans), size):
        rows = slice(start, start + size)
        nothing = Pulls(None, torch.zeros(0, 1), None, torch.zeros(0, 1))
        part = result[rows].contiguous()
        adapt(base, adapters, part, plans[rows], TRAINING, LANGUAGE, LR, nothing)
        result[rows] = part
    return result


def by_peft(
    base: Base, layout: Any, theta: torch.Tensor, plans: list[list[list[Encoded]]]
) -> Callable[[], torch.Tensor]:
    """The usual way: one PEFT model, into which every participant's adapter is put for its steps of the round."""
    peft = needed.peft()
    with needed.quietly():
        model = peft.get_peft_model(base.model, layout.settings).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def run() -> torch.Tensor:
        result = theta.clone()
        for index, steps in enumerate(plans):
            with needed.quietly():
                peft.set_peft_model_state_dict(model, layout.tensors(theta[index].numpy()))
            optimiser = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0)
            for rows in steps:
                ids = torch.from_numpy(np.stack([row.ids for row in rows]))
                labels = ids.clone()
                labels[:, : TOKENS - LABELLED] = -100
                optimiser.zero_grad()
                model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, LANGUAGE.clip)
                optimiser.step()
            result[index] = torch.from_numpy(layout.vector(peft.get_peft_model_state_dict(model)))
        return result

    return run


def seven_b(repeats: int) -> dict[str, Any]:
    """Seconds per step and peak memory of a base of the shape of Llama-2-7B."""
    language = LANGUAGE.model_copy(update={"rank": 32, "alpha": 64.0})
    device = torch.device("cuda")
    properties = torch.cuda.get_device_properties(device)
    found: dict[str, Any] = {"device": properties.name, "memory_bytes": properties.total_memory, "rows": []}
    if properties.total_memory < 20e9:
        print(f"{properties.name} has too little memory for a base of the shape of Llama-2-7B")
        return found
    base = random_base(SEVEN_B, 32_000, "cuda", dtype=torch.bfloat16)
    layout, theta_0 = lay_out(base.model, language, 0)
    for checkpointing in (True, False):
        if checkpointing:
            base.model.gradient_checkpointing_enable({"use_reentrant": False})
            base.model.enable_input_require_grads()
            base.model.train()
        else:
            base.model.gradient_checkpointing_disable()
        adapters = Adapters(base.model, layout)
        for size in (1, 2, 4, 8):
            theta = torch.from_numpy(np.tile(theta_0, (size, 1))).to(device)
            plans = [rows_of(index, 8, 512, 32_000, 2) for index in range(size)]
            torch.cuda.reset_peak_memory_stats()
            seconds = []
            try:
                for _ in range(1 + repeats):
                    torch.cuda.synchronize()
                    began = time.perf_counter()
                    in_groups(base, adapters, theta, plans, size)
                    torch.cuda.synchronize()
                    seconds.append((time.perf_counter() - began) / 2)
            except torch.OutOfMemoryError:
                print(f"7B, group of {size}, checkpointing {checkpointing}: out of memory")
                found["rows"].append({"group": size, "checkpointing": checkpointing, "out_of_memory": True})
                torch.cuda.empty_cache()
                break
            row = {
                "group": size,
                "checkpointing": checkpointing,
                "seconds_per_step": statistics.median(seconds[1:]),
                "peak_bytes": torch.cuda.max_memory_allocated(),
            }
            found["rows"].append(row)
            print(f"7B on {found['device']}: {row}", flush=True)
    return found


if __name__ == "__main__":
    main()
