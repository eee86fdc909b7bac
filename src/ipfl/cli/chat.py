"""`ipfl chat`: talk to the model that a participant took home from a run of language models."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ipfl.cli.layout import print_json

END = ("exit", "quit")


@click.command(short_help="Talk to a participant's language model.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.argument("participant_id")
@click.option(
    "--instruction", "instructions", multiple=True, help="Ask this instead of reading lines (repeatable)."
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1, 100_000),
    help="Cut an answer off there.  [default: as the run's configuration says]",
)
@click.option(
    "--base", "only_base", is_flag=True, help="Ask the base model, without the participant's adapter."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of instructions and answers.")
def chat(
    run_folder: Path,
    participant_id: str,
    instructions: tuple[str, ...],
    max_new_tokens: int | None,
    only_base: bool,
    as_json: bool,
) -> None:
    """Ask the adapter that PARTICIPANT_ID took home from RUN_FOLDER; answers are the likeliest ones, without chance.

    \b
    ipfl chat runs/assistants-001 desk-00
    ipfl chat runs/assistants-001 desk-00 --instruction "Which kind of event is this? Makux kutied costs today."
    echo "Is the door open?" | ipfl chat runs/own-001 bank-a
    """
    answer = _answerer(run_folder, participant_id, max_new_tokens, only_base)
    if as_json:
        print_json([{"instruction": asked, "response": answer(asked)} for asked in instructions or _piped()])
        return
    for asked in instructions or _lines():
        click.echo(answer(asked))


def _answerer(
    run_folder: Path, participant_id: str, max_new_tokens: int | None, only_base: bool
) -> Callable[[str], str]:
    from ipfl.experiment.language import Assistant
    from ipfl.run_folder import load_run

    return Assistant(load_run(run_folder), participant_id, adapted=not only_base, limit=max_new_tokens)


def _piped() -> Iterator[str]:
    return (line.strip() for line in sys.stdin if line.strip())


def _lines() -> Iterator[str]:
    """Lines as they are typed, until the end or `exit`; a pipe's lines without a prompt."""
    if not sys.stdin.isatty():
        yield from _piped()
        return
    click.echo("One instruction per line; exit with Ctrl-D.", err=True)
    while True:
        try:
            asked = input("> ").strip()
        except EOFError:
            return
        if asked in END:
            return
        if asked:
            yield asked
