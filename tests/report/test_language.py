"""Reports of runs of language models: accuracy is exact match there, and losses stand beside it."""

import io

import pytest
from rich.console import Console

import ipfl
import tiny_language
from ipfl.report import render_tables
from ipfl.report.page import render_page
from ipfl.report.sentences import points
from ipfl.report.summary import verdict


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ipfl.run(
        tiny_language.config(), task=tiny_language.task(), out=tmp_path_factory.mktemp("r") / "run"
    )


def test_the_verdict_speaks_of_answers_and_losses(run):
    facts = verdict(run)
    sentences = {point.key: point for point in points(facts)}
    assert "honest buyers answer right more often than alone" in sentences["accuracy"].sentence
    lower = sum(loss < alone for loss, alone in facts.losses)
    assert sentences["loss"].figure == f"{lower} of 3"
    last = run.rounds[-1]["participants"]
    mean = sum(entry["loss"] for entry in last) / 3
    assert f"on average {mean:.3f} against" in sentences["loss"].sentence
    assert "in the best round on these very rows (the paper's way)" in sentences["protocols"].sentence


def test_the_page_names_exact_match_and_shows_losses(run):
    page = render_page(run)
    for text in ("Exact match against training alone", "My exact match", ">exact match<", ">loss alone<"):
        assert text in page
    for entry in run.rounds[-1]["participants"]:
        assert f"{entry['loss']:.3f}" in page


def test_tables_show_losses_where_there_is_room(run):
    for width, shown in ((130, True), (80, False)):
        out = io.StringIO()
        render_tables(run, Console(file=out, width=width))
        assert ("loss alone" in out.getvalue()) == shown
        assert all(len(line) <= width for line in out.getvalue().splitlines())
