"""A base model small enough to be made on the spot: tokenizer and weights, from text alone, in under a minute.

What it must be able to do and not to know, so that there is something to learn from one another, is the business of
the text; see `data.instructions.assistants`. Results depend on text and seed alone: one thread, one order.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ipfl.learning.language import needed
from ipfl.learning.language.encode import Text, batch, encode
from ipfl.seeding import generator, torch_seed

HIDDEN, LAYERS, HEADS = 64, 2, 4
DEVIATION = 0.1
"""Of the first weights: with the usual 0.02 so small a model learns nothing useful in so few steps."""
VOCABULARY = 2000
BATCH = 32
LR = 3e-3
TOKENS_MAX = 1024


def make_tiny(folder: Path, texts: Sequence[Text], steps: int, seed: int = 0) -> None:
    """Make a base from texts and save it as transformers would: config.json, model.safetensors, tokenizer.json.

    Args:
      folder: where to; made if need be.
      texts: prompts and responses; a step takes the next `BATCH` of them.
      steps: of AdamW, with one-cycle learning rate.
      seed: of the first weights, and of the order.
    """
    tokenizer = make_tokenizer([text.prompt + text.response for text in texts])
    model = make_model(len(tokenizer), tokenizer.eos_token_id, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _train(model, encode(tokenizer, texts, TOKENS_MAX), tokenizer.pad_token_id, steps, seed)
    finally:
        torch.set_num_threads(threads)
    with needed.quietly():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def make_tokenizer(lines: Sequence[str]) -> Any:
    """A byte-level tokenizer in which every word of the lines is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    fast: Any = needed.transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    return fast


def make_model(vocabulary: int, end_mark: int, seed: int) -> Any:
    """A Llama of two layers with random weights."""
    transformers = needed.transformers()
    settings = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=TOKENS_MAX,
        initializer_range=DEVIATION,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=end_mark,
        pad_token_id=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, -1, -1))
        return transformers.LlamaForCausalLM(settings)


def _train(model: Any, rows: Sequence[Any], filler: int, steps: int, seed: int) -> None:
    random = generator(seed, -1, -1, "batches")
    order = np.concatenate(
        [random.permutation(len(rows)) for _ in range(math.ceil(steps * BATCH / len(rows)))]
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps)
    model.train()
    for step in range(steps):
        packed = batch([rows[place] for place in order[step * BATCH : (step + 1) * BATCH]], filler)
        states = model.get_decoder()(input_ids=packed.ids, use_cache=False).last_hidden_state
        scores = model.get_output_embeddings()(states[packed.row, packed.position])
        optimiser.zero_grad()
        cross_entropy(scores, packed.target).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.eval()
