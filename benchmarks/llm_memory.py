"""What training adapters of a large base needs on a card: calculated from shapes, not measured.

    python benchmarks/llm_memory.py

For a base of the shape of Llama-2-7B, batches of 8 rows of 512 tokens, adapters of rank 32 on q and v, gradient
checkpointing: numbers of the base (counted on a model without memory), the adapter at work with gradient and AdamW's
two moments in float32, what each layer keeps (its input), one layer at a time in full, scores at the labelled
positions, and 0.8 GiB for the CUDA context and fragments. Puts the table into docs/language-models.md between
<!-- memory --> and <!-- /memory -->.
"""

import re
from pathlib import Path

import torch

from ipfl.learning.language import needed

PAGE = Path(__file__).parent.parent / "docs" / "language-models.md"
SHAPE = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
ROWS, TOKENS, LABELLED, VOCABULARY = 8, 512, 64, 32_000
GIB = 2**30
OVERHEAD = 0.8 * GIB
BYTES_PER_WEIGHT = {"bfloat16": 2.0, "8bit": 1.0, "4bit": 0.53}
"""Of the linear layers; embedding and head stay in bfloat16. 4 bits: half a byte, and a scale for every 64 weights."""


def main() -> None:
    transformers = needed.transformers()
    with needed.quietly(), torch.device("meta"):
        config = transformers.LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=False, **SHAPE)
        model = transformers.AutoModelForCausalLM.from_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    ends = 2 * VOCABULARY * SHAPE["hidden_size"]
    adapter = 2 * SHAPE["num_hidden_layers"] * 2 * 32 * SHAPE["hidden_size"]
    lines = [
        f"| GiB, {total / 1e9:.2f} billion numbers, batch {ROWS} x {TOKENS} | bfloat16 | 8 bit | 4 bit |",
        "|---|---:|---:|---:|",
    ]
    bases = [((total - ends) * size + ends * 2) / GIB for size in BYTES_PER_WEIGHT.values()]
    lines.append(row("base", bases))
    at_work = 4 * 4 * adapter / GIB
    lines.append(row(f"one adapter of {adapter / 1e6:.1f} million numbers at work", [at_work] * 3))
    kept = [activations(1) / GIB] * 3
    lines.append(row("activations with checkpointing, one participant", kept))
    sums = [base + at_work + kept[0] + OVERHEAD / GIB for base in bases]
    lines.append(row("**one participant at a time** (`engine.block = 1`)", sums))
    for group in (4, 8):
        more = [base + group * at_work + (activations(group) + OVERHEAD) / GIB for base in bases]
        lines.append(row(f"**{group} participants together** (`engine.block = {group}`)", more))
    lines.append(row("all adapters of 8 participants on the host", [8 * 4 * adapter / GIB] * 3))
    table = "\n".join(lines)
    print(table)
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile("<!-- memory -->.*?<!-- /memory -->", re.DOTALL)
    PAGE.write_text(
        inside.sub(lambda _: f"<!-- memory -->\n{table}\n<!-- /memory -->", page), encoding="utf-8"
    )


def activations(group: int) -> float:
    """Bytes kept on the way forward: every layer's input, all that one layer makes, and scores."""
    tokens = group * ROWS * TOKENS
    inputs = SHAPE["num_hidden_layers"] * tokens * SHAPE["hidden_size"] * 2
    # one layer gone through again: q, k, v, attention's result, three of the feed-forward width, and norms
    one_layer = tokens * (8 * SHAPE["hidden_size"] + 4 * SHAPE["intermediate_size"]) * 2
    scores = group * ROWS * LABELLED * VOCABULARY * (2 + 4 + 4)
    return inputs + one_layer + scores


def row(name: str, values: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |"


if __name__ == "__main__":
    main()
