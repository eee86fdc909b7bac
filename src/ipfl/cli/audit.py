"""`ipfl audit`: could anybody have done better by lying, is anybody worse off, does the money add up?"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ipfl.cli import layout
from ipfl.cli.market_input import MarketInput, chosen_rule, market_options, read_market
from ipfl.errors import RunFolderError
from ipfl.market.auditing import REGRETS, AuditReport
from ipfl.market.auditing import audit as audit_market
from ipfl.market.exact import NODE_LIMIT
from ipfl.market.regret import NEGLIGIBLE
from ipfl.market.rules import Rule, rule_name
from ipfl.market.units import billed
from ipfl.market.verdict import PROMISES, Finding, findings, passed
from ipfl.methods.gain_curves import curves_of
from ipfl.methods.registry import WITH_A_MARKET
from ipfl.run_folder import Run, load_run
from ipfl.types.market import Bids

PROMISED = {"cost": "the export cost", "valuation": "the valuation"}
UNIFORM = ("balance", "optimum", "record", *REGRETS)
"""What holds alike in every round in which it holds."""
CHECK_FAILED = 1
"""Exit code: the market breaks a law that its rule promises."""


@click.command(short_help="Audit a market or a finished run: could a lie have paid?")
@click.argument("bids_or_run", type=click.Path(path_type=Path), metavar="BIDS.csv|RUN_FOLDER")
@market_options
@click.option(
    "--regrets",
    default=",".join(REGRETS),
    show_default=True,
    metavar="LIST",
    help="Which false reports to try, separated by commas; none for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print the verdict only.")
def audit(bids_or_run: Path, regrets: str, as_json: bool, quiet: bool, **market: Any) -> None:
    """Audit a market (BIDS.csv and --distances), or every round of a run (RUN_FOLDER).

    The bids are taken for the truth. For every participant the audit asks how much a false export cost, a
    false valuation or a false number of examples could have gained it, by clearing the market again; whether
    anybody is worse off than alone; and whether sellers receive what buyers (and the operator) pay. A run's
    recorded payments must also equal those that its rules lead to.

    \b
    ipfl audit bids.csv --distances d.csv --rule paper
    ipfl audit runs/digits-001 --regrets cost,valuation

    Exit codes: 0 passed; 1 the check failed: somebody is worse off than alone, the money does not add up,
    recorded payments differ, or a lie pays that the rule promises not to reward; 2 bad usage or input.
    """
    kinds = [] if regrets == "none" else [kind.strip() for kind in regrets.split(",")]
    watched = not (as_json or quiet)
    if bids_or_run.is_dir():
        given = [name for name, value in market.items() if value is not None and name != "node_limit"]
        if given:
            raise click.UsageError(f"--{given[0]} is set by the run: a run folder is audited as it was run")
        result = audit_run(load_run(bids_or_run), kinds, market["node_limit"] or NODE_LIMIT, watched)
    else:
        result = audit_table(read_market(bids_or_run, **market), kinds, watched)
    if as_json:
        layout.print_json(result.as_record())
    else:
        result.render(Console(), quiet)
    if not result.passed:
        sys.exit(CHECK_FAILED)


@dataclass(frozen=True, eq=False)
class Audited:
    """One market that was audited: a table of bids, or one round of a run."""

    bids: Bids
    report: AuditReport
    findings: list[Finding]
    round_index: int | None = None

    @property
    def passed(self) -> bool:
        """Whether no law is broken."""
        return passed(self.findings)


@dataclass(frozen=True, eq=False)
class Result:
    """All that was audited, at least one market; over several, every figure is the worst of any."""

    markets: Sequence[Audited]
    rule: Rule
    lam: float
    kinds: Sequence[str]
    names: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no law is broken in any market."""
        return all(market.passed for market in self.markets)

    def as_record(self) -> dict[str, Any]:
        """What --json prints."""
        return {
            "passed": self.passed,
            "rule": rule_name(*self.rule),
            "allocation_rule": self.rule.allocation,
            "payment_rule": self.rule.payment,
            "lam": self.lam,
            "promises": list(PROMISES[self.rule.payment]),
            "markets": [_record(market) for market in self.markets],
        }

    def render(self, console: Console, quiet: bool) -> None:
        """The participants, then the verdict."""
        if not quiet and self.names:
            note = "the most that a false report gains, and that report"
            layout.show(console, "Regrets", note, layout.widest(console, self._table))
        several = len(self.markets) > 1
        rules = "/".join(self.rule)
        rounds = f", {len(self.markets)} rounds" if several else ""
        layout.sentence(
            console,
            f"Rule {rule_name(*self.rule)} ({rules}), lam {self.lam:g}, {self.tried:,} reports{rounds}.",
        )
        for text, good in self._sentences():
            layout.sentence(console, text, good)
        promised = " and ".join(PROMISED[kind] for kind in PROMISES[self.rule.payment])
        if self.passed:
            promise = f"promises truthfulness on {promised} only" if promised else "promises no truthfulness"
            ending = Text.assemble(("Passed.", "bold green"), f" The {self.rule.payment} payment {promise}.")
        else:
            broken = [text for text, good in self._sentences() if good is False]
            laws = "1 law is broken" if len(broken) == 1 else f"{len(broken)} laws are broken"
            ending = Text.assemble(("Failed:", "bold red"), f" {laws}.")
        console.print()
        console.print(ending)

    @property
    def tried(self) -> int:
        """How many reports were tried."""
        return sum(market.report.reports for market in self.markets)

    def _sentences(self) -> Iterator[tuple[str, bool | None]]:
        """The verdicts; over several rounds each law once, by its worst round."""
        if len(self.markets) == 1:
            for finding in self.markets[0].findings:
                yield finding.sentence, finding.passed
            return
        for law in dict.fromkeys(finding.law for market in self.markets for finding in market.findings):
            rounds = [
                (market, finding)
                for market in self.markets
                for finding in market.findings
                if finding.law == law
            ]
            market, finding = min(rounds, key=lambda entry: _severity(law, *entry))
            where = (
                "In every round."
                if law in UNIFORM and finding.passed
                else f"Worst: round {market.round_index}."
            )
            yield f"{finding.sentence} ({where})", finding.passed

    def _table(self, wide: bool, fewer: int) -> Table:
        heads = {"cost": "exp. cost", "valuation": "valuation", "size": "examples"}
        names = ["participant", "utility", *(["surplus"] if wide else [])]
        for kind in self.kinds:
            names += [f"{heads[kind]} regret", "report"] if wide else [kind, "by"]
        shown = layout.table(names, ["participant"])
        worst = [self._worst(name) for name in self.names[: layout.ROWS_SHOWN]]
        places = layout.decimals([[row["utility"], row["surplus"]] for row in worst], fewer)
        for name, row in zip(self.names, worst, strict=False):
            cells = [layout.amount(row[key], places) for key in ("utility", "surplus") if key in names]
            for kind in self.kinds:
                regret, witness = row[kind]
                if regret > 0:
                    promised = kind in PROMISES[self.rule.payment]
                    style = "bold red" if promised else "yellow"
                    cells += [Text(layout.short(regret), style), Text(layout.short(witness))]
                else:
                    cells += [Text("–" if math.isnan(regret) else "0", "dim"), Text("")]
            shown.add_row(Text(name), *cells)
        layout.more(shown, len(self.names) - layout.ROWS_SHOWN, "--json")
        return shown

    def _worst(self, name: str) -> dict[str, Any]:
        """One participant's smallest well-being and largest regrets over all markets it was in."""
        row: dict[str, Any] = {"utility": math.nan, "surplus": math.nan}
        row |= dict.fromkeys(self.kinds, (math.nan, math.nan))
        for market in self.markets:
            if name not in market.bids.ids:
                continue
            index, report = market.bids.ids.index(name), market.report
            for key, values in (("utility", report.outcome.utilities), ("surplus", report.outcome.surpluses)):
                row[key] = float(np.fmin(row[key], values[index]))
            for kind in self.kinds:
                regret = float(getattr(report, f"{kind}_regret")[index])
                if not regret <= row[kind][0]:
                    row[kind] = (regret, float(getattr(report, f"{kind}_witness")[index]))
        return row


def audit_table(read: MarketInput, kinds: Sequence[str], watched: bool) -> Result:
    """Audit a market read from files."""
    with progress(watched, f"auditing {len(read.bids)} participants", None):
        report = audit_market(read.bids, read.distance, **read.options, regrets=kinds)
    judged = Audited(read.bids, report, findings(report, read.bids.ids, _truth(read.bids)))
    return Result([judged], read.rule, read.lam, kinds, read.bids.ids)


def audit_run(run: Run, kinds: Sequence[str], node_limit: int, watched: bool) -> Result:
    """Audit every round of a run, among those who were there.

    Raises:
      RunFolderError: a run without a market, without rounds, or whose files do not fit together.
    """
    config = run.config
    if config.method not in WITH_A_MARKET:
        raise RunFolderError(f"{run.path} was run with method {config.method}, which has no market to audit")
    if not run.rounds:
        raise RunFolderError(f"{run.path} has no finished round to audit yet")
    rule = chosen_rule(None, config.market.allocation, config.market.payment)
    markets = []
    with progress(watched, "rounds audited", len(run.rounds)) as advance:
        for line in run.rounds:
            bids, distance = present_market(run, line)
            report = audit_market(
                bids, distance, config.market.lam, *rule, regrets=kinds, node_limit=node_limit
            )
            found = findings(report, bids.ids, _truth(bids))
            found.append(_recorded(run, line["round_index"], bids, report))
            markets.append(Audited(bids, report, found, line["round_index"]))
            advance()
    return Result(markets, rule, config.market.lam, kinds, tuple(run.participant_ids))


def present_market(run: Run, line: dict[str, Any]) -> tuple[Bids, np.ndarray]:
    """The bids and distances of the participants who took part in a round."""
    entries = [entry for entry in line["participants"] if entry["present"]]
    here = [index for index, entry in enumerate(line["participants"]) if entry["present"]]
    distance = run.distances(line["round_index"])
    if not isinstance(distance, np.ndarray):
        raise RunFolderError(
            f"{run.path} was cleared among market.candidates = {run.config.market.candidates} of each buyer, and an "
            "audit needs the distances of all: run it with --set market.candidates=0"
        )
    m = len(line["participants"])
    if distance.shape != (m, m):
        raise RunFolderError(
            f"{run.path}: distances of round {line['round_index']} have shape {distance.shape}, expected {(m, m)}"
        )
    curves = curves_of(run.config)
    bids = Bids(
        num_examples=np.array([entry["bid"]["num_examples"] for entry in entries], dtype=np.float64),
        valuation=np.array([entry["bid"]["valuation"] for entry in entries], dtype=np.float64),
        export_cost=np.array([entry["bid"]["export_cost"] for entry in entries], dtype=np.float64),
        participant_ids=tuple(entry["id"] for entry in entries),
        curves=tuple(curves[entry["id"]] for entry in entries),
    )
    return bids, distance[np.ix_(here, here)]


@contextmanager
def progress(watched: bool, label: str, total: int | None) -> Iterator[Any]:
    """A progress bar on standard error while it is a terminal; yields what to call after each step."""
    console = Console(stderr=True)
    if not (watched and console.is_terminal):
        yield lambda: None
        return
    bars = [TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    if total is None:
        bars = [TextColumn(label), BarColumn(), TimeElapsedColumn()]
    with Progress(*bars, console=console, transient=True) as shown:
        task = shown.add_task(label, total=total)
        yield lambda: shown.advance(task)


def _recorded(run: Run, round_index: int, bids: Bids, report: AuditReport) -> Finding:
    """Whether edges.csv holds the payments that the rules lead to, in whole units, and no others."""
    recorded = {
        (edge["buyer"], edge["seller"]): edge["payment"]
        for edge in run.edges
        if edge["round_index"] == round_index
    }
    outcome = billed(report.outcome, bids)
    ruled = {
        (bids.ids[i], bids.ids[j]): float(outcome.payments[i, j])
        for i, j in zip(*(axis.tolist() for axis in np.nonzero(outcome.allocation)), strict=True)
    }
    for pair in sorted(recorded.keys() | ruled.keys()):
        was, should = recorded.get(pair), ruled.get(pair)
        if was is None or should is None or abs(was - should) > NEGLIGIBLE * report.scale:
            return Finding(
                "record",
                False,
                f"edges.csv says that {pair[0]} pays {pair[1]} {_or_nothing(was)}, the rules say "
                f"{_or_nothing(should)}.",
            )
    return Finding("record", True, "The recorded payments are those that the rules lead to.")


def _or_nothing(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def _truth(bids: Bids) -> dict[str, np.ndarray]:
    sizes = bids.num_examples.astype(np.float64)
    return {"cost": bids.export_cost, "valuation": bids.valuation, "size": sizes}


def _severity(law: str, market: Audited, finding: Finding) -> tuple[int, float]:
    """Sorts the worst round first."""
    report = market.report
    figure = {
        "rationality": min(report.min_utility, report.min_surplus),
        "balance": -abs(report.imbalance),
        "welfare": report.objective_ratio,
        "optimum": -report.max_gap,
    }.get(law)
    if figure is None:
        regret = getattr(report, f"{law}_regret", np.zeros(1))
        figure = -float(np.nanmax(regret, initial=0.0))
    return {False: 0, None: 1, True: 2}[finding.passed], figure


def _record(market: Audited) -> dict[str, Any]:
    report = market.report
    fields = (
        "min_utility", "min_utility_of", "min_surplus", "min_surplus_of", "individually_rational", "imbalance",
        "optimal_welfare", "optimal_objective", "welfare_ratio", "objective_ratio", "max_gap", "scale",
        "valuation_exact", "reports",
    )  # fmt: skip
    arrays = {
        f"{kind}_{part}": getattr(report, f"{kind}_{part}").tolist()
        for kind in REGRETS
        for part in ("regret", "witness")
    }
    arrays |= {"utility": report.outcome.utilities.tolist(), "surplus": report.outcome.surpluses.tolist()}
    return {
        "round_index": market.round_index,
        "passed": market.passed,
        "findings": [
            {"law": found.law, "passed": found.passed, "sentence": found.sentence}
            for found in market.findings
        ],
        **{name: getattr(report, name) for name in fields},
        "welfare": report.outcome.welfare,
        "objective": report.outcome.objective,
        "subsidy": report.outcome.subsidy,
        "participants": [
            {"participant_id": name} | {column: values[index] for column, values in arrays.items()}
            for index, name in enumerate(market.bids.ids)
        ],
    }
