"""Small made-up files of instructions, in the forms in which the real ones are published. Shared by the tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEGREES = (
    "strong negative", "moderately negative", "mildly negative", "neutral",
    "mildly positive", "moderately positive", "strong positive",
)  # fmt: skip
Rows = list[dict[str, Any]]


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """The rows as a file; its ending decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        pa.parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def fiqa_rows(count: int) -> Rows:
    """Posts and headlines in turn, scores from -0.5 to 0.5."""
    return [
        {
            "sentence": f"$AB{number} rises after report {number}",
            "snippets": "['rises']",
            "target": f"AB{number}",
            "sentiment_score": (number % 11 - 5) / 10,
            "aspects": "['Stock/Price Action']",
            "format": "post" if number % 2 else "headline",
        }
        for number in range(count)
    ]


def tfns_rows(count: int) -> Rows:
    return [{"text": f"$CD{number} - target cut to {number}", "label": number % 3} for number in range(count)]


def nwgi_rows(count: int) -> Rows:
    return [
        {
            "news": f"Company {number} reports, its shares move.",
            "prompt": "What is the sentiment?",
            "out": "Because of its report.",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "label": DEGREES[number % 7],
        }
        for number in range(count)
    ]


def code_rows(count: int) -> Rows:
    """Every other one has an input."""
    return [
        {
            "instruction": f"Write a function that adds {number}.",
            "input": f"def add_{number}(x):" if number % 2 else "",
            "output": f"return x + {number}",
        }
        for number in range(count)
    ]


def prepared_rows(count: int, answers: Sequence[str] = ("negative", "neutral", "positive")) -> Rows:
    """The form with instruction, input and output."""
    question = f"What is the sentiment of this news? Please choose an answer from {{{'/'.join(answers)}}}."
    return [
        {"instruction": question, "input": f"Prepared {number}.", "output": answers[number % len(answers)]}
        for number in range(count)
    ]


ROWS = {"fiqa": fiqa_rows, "tfns": tfns_rows, "nwgi": nwgi_rows, "codealpaca": code_rows}


def finance(folder: Path, count: int = 60) -> Path:
    """One set of each form: a .jsonl file, a .parquet file and a folder."""
    write_rows(folder / "fiqa.jsonl", fiqa_rows(count))
    write_rows(folder / "tfns.parquet", tfns_rows(count))
    write_rows(folder / "nwgi" / "test.jsonl", nwgi_rows(count)[: count // 4])
    write_rows(folder / "nwgi" / "train.parquet", nwgi_rows(count)[count // 4 :])
    return folder


def cofinance(folder: Path, count: int = 60) -> Path:
    write_rows(folder / "codealpaca.parquet", code_rows(count))
    write_rows(folder / "nwgi.jsonl", nwgi_rows(count))
    return folder


WRITERS = {"finance": finance, "cofinance": cofinance}
"""For each task made of published files, a function that writes small ones into a folder."""


def own_rows(count: int, answers: Sequence[str] = ("no", "yes"), first: int = 0) -> Rows:
    return [
        {"instruction": f"Is {number} large?", "response": answers[number % len(answers)]}
        for number in range(first, first + count)
    ]


def own(folder: Path, names: str = "abc", count: int = 20) -> Path:
    """A folder of one .jsonl file per participant."""
    for place, name in enumerate(names):
        write_rows(folder / f"{name}.jsonl", own_rows(count, first=1000 * place))
    return folder
