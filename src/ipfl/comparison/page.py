"""The page of a comparison: one HTML file that needs no network, in the look of a run's page.

Its content security policy allows exactly the styles and scripts written into it, by their hashes, and pictures that
are in the page itself. The data are JSON in an element that never runs.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ipfl.comparison.statistics import Estimate, Figures, estimates, mean_curve
from ipfl.comparison.study import Results
from ipfl.comparison.tables import LEGEND, Column, Row, cells, number, used
from ipfl.presets import preset_of
from ipfl.report.page import embedded
from ipfl.run_folder import write_text

NUM_DOTS_MAX = 6_000
"""More dots than this in one variant's better-off plot are averaged over seeds."""


@dataclass(frozen=True)
class Card:
    """One headline: what, a figure, a sentence; `tone` is good, bad or neutral."""

    title: str
    figure: str
    sentence: str
    tone: str = "neutral"


@dataclass(frozen=True)
class Section:
    """A table with what it says, and the figure it goes with, if any (a PNG file and its description)."""

    title: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    legend: str = LEGEND
    picture: Path | None = None
    about: str = ""
    lead: str = ""
    cards: Sequence[Card] = field(default_factory=tuple)


def write_page(results: Results, path: Path, title: str, sections: Sequence[Section], command: str) -> None:
    """Write the page, whole or not at all.

    Raises:
      RunFolderError: it cannot be written.
    """
    write_text(path, render_page(results, title, sections, command))


def render_page(results: Results, title: str, sections: Sequence[Section], command: str) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(str(files("ipfl.comparison") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (
        _asset("ipfl.report", "templates/page.css")
        + "\n"
        + _asset("ipfl.comparison", "templates/comparison.css")
    )
    charts = _asset("ipfl.report", "vendor/echarts.min.js")
    script = f'"use strict";\n{{\n{_asset("ipfl.comparison", "templates/comparison.js")}\n}}'
    policy = (
        f"default-src 'none'; script-src {_hash(charts)} {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    given = [card for section in sections for card in section.cards]
    return environment.get_template("comparison.html").render(
        title=title,
        facts=_facts(results),
        cards=given or headline_cards(results),
        sections=[_section(section) for section in sections],
        variants=list(results.groups),
        notes=results.notes,
        failures=[(failure.cell.name, failure.reason) for failure in results.failures],
        environment=[(key, value) for key, value in _environment(results) if value is not None],
        command=command,
        data=embedded(payload(results)),
        style=style,
        script=script,
        charts=charts,
        policy=policy,
    )


def payload(results: Results) -> dict[str, Any]:
    """What the page's script gets: per variant and method the means, the differences and the curve."""
    methods = list(dict.fromkeys(run.method for run in results.runs))
    return {
        "methods": methods,
        "variants": [
            {"label": label, "methods": [_method(name, runs) for name, runs in groups.items()]}
            for label, groups in results.groups.items()
        ],
    }


def headline_cards(results: Results) -> list[Card]:
    """Who did best at what, in the first variant."""
    methods = next(iter(results.groups.values()), {})
    found = {name: estimates(runs) for name, runs in methods.items()}
    return [
        card
        for card in (
            _leader(found, "accuracy", "Most accurate", "best round on the common test set, honest buyers"),
            _leader(found, "accuracy_held_out", "Most accurate, held out", "own test splits, honest buyers"),
            _leader(found, "utility", "Highest utility", "sum over rounds, mean of the honest"),
            _leader(found, "better_off", "Most better off", "buyers above training alone, held out"),
            _leader(
                found,
                "worst_off",
                "Kindest to the worst off",
                "the buyer that lost most against training alone",
            ),
        )
        if card is not None
    ]


def _leader(
    found: dict[str, dict[str, Estimate | None]], quantity: str, title: str, what: str
) -> Card | None:
    """The method with the best mean; methods within a hair of it are named with it."""
    known = {name: value for name, row in found.items() if (value := row[quantity]) is not None}
    if not known or (quantity in ("better_off", "worst_off") and set(known) == {"local"}):
        return None
    if quantity in ("better_off", "worst_off"):
        known.pop("local", None)  # nobody is above alone in training alone
    best = max(value.mean for value in known.values())
    names = [name for name, value in known.items() if math.isclose(value.mean, best, abs_tol=1e-9)]
    shown = known[names[0]]
    others = f" (as {', '.join(names[1:4])})" if len(names) > 1 else ""
    return Card(title, names[0], f"{_told(quantity, shown)}{others}: {what}.")


def _told(quantity: str, value: Estimate) -> str:
    """A mean and its interval in the unit that people read."""
    scale, unit = (1, "") if quantity == "utility" else (100, " points" if quantity == "worst_off" else " %")
    interval = "" if value.half_width is None else f" ± {number(scale * value.half_width, 1)}"
    return f"{number(scale * value.mean, 1)}{interval}{unit}"


def _method(name: str, runs: list[Figures]) -> dict[str, Any]:
    values = estimates(runs)
    return {
        "name": name,
        "seeds": len(runs),
        "paper": _interval(values["accuracy"]),
        "held_out": _interval(values["accuracy_held_out"]),
        "utility": _interval(values["utility"]),
        "better_off": _short(None if values["better_off"] is None else values["better_off"].mean),
        "dots": _dots(runs),
        "curve": [_short(value) for value in mean_curve(runs)],
    }


def _dots(runs: list[Figures]) -> list[list[Any]]:
    """Participant, seed (null: the mean over seeds) and held-out difference to alone of every buyer."""
    dots = [
        (person.participant, run.seed, person.difference)
        for run in runs
        for person in run.people
        if person.buyer and person.difference is not None
    ]
    if len(dots) <= NUM_DOTS_MAX // 10:
        return [[who, seed, _short(value)] for who, seed, value in dots]
    by_participant: dict[str, list[float]] = {}
    for who, _, value in dots:
        by_participant.setdefault(who, []).append(value)
    means = [(who, math.fsum(values) / len(values)) for who, values in by_participant.items()]
    return [[who, None, _short(value)] for who, value in means[: NUM_DOTS_MAX // 10]]


def _section(section: Section) -> dict[str, Any]:
    columns = used(section.rows, section.columns)
    picture = None
    if section.picture is not None:
        picture = base64.b64encode(section.picture.read_bytes()).decode("ascii")
    return {
        "title": section.title,
        "lead": section.lead,
        "legend": section.legend,
        "picture": picture,
        "about": section.about,
        "heads": [(column.heading, column.form == "text") for column in columns],
        "rows": [
            [(text, column.form == "text") for text, column in zip(line, columns, strict=True)]
            for line in cells(section.rows, columns)
        ],
    }


def _facts(results: Results) -> list[str]:
    seeds = list(results.grid.seeds)
    run = results.runs[0]
    counts = (
        (len(run.people), "participant"),
        (results.rounds, "round"),
        (len(results.grid.methods), "method"),
        (len(seeds), "seed"),
        (len(results.runs), "run"),
    )
    return [
        str(results.environment.get("task", "")),
        str(results.environment.get("model", "")),
        *(f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in counts),
    ]


def _environment(results: Results) -> list[tuple[str, Any]]:
    kept = ("ipfl", "python", "numpy", "torch", "platform", "device", "task", "model", "num_params")
    settings = ", ".join(results.grid.settings) or None
    base = results.grid.base or (
        "digits" if results.grid.data is None else preset_of(Path(results.grid.data))
    )
    return [
        ("preset or file", base),
        ("settings", settings),
        ("seeds", ", ".join(map(str, results.grid.seeds))),
        *((key, results.environment.get(key)) for key in kept),
    ]


def _interval(value: Estimate | None) -> list[float | None] | None:
    return None if value is None else [_short(value.mean), _short(value.half_width)]


def _short(value: float | None) -> float | None:
    """Six digits are enough for a screen."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


@cache
def _asset(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
