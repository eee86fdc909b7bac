"""The application: the page, and the run as JSON."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import Request
from starlette.responses import Response

from ipfl.errors import RunFolderError
from ipfl.report import participant_table
from ipfl.run_folder import Run
from ipfl.serve import answers
from ipfl.serve.guard import Guard
from ipfl.serve.pages import Page, endpoints_page, waiting_page
from ipfl.serve.reader import Reader

DESCRIPTION = (
    "A run of a model-sharing market, read from its folder as it stands. It can only be looked at; every refusal is "
    'JSON, {"detail": one sentence}. Where the server asks for a token, send the header Authorization: Bearer TOKEN.'
)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": answers.Problem, "description": "The token is lacking or wrong."},
    503: {"model": answers.Problem, "description": "The run folder is damaged or gone."},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": answers.Problem, "description": "There is none; the sentence says what there is."},
    422: {"model": answers.Problem, "description": "A parameter is not of its type."},
}
_WAITING = {
    "preparing": "The run is being prepared: data and models are loaded, and its first files written.",
    "not begun": "The run was cut off before its first round: start it again with ipfl run.",
    "running": "No round has ended yet. This page shows the first as soon as it does.",
    "paused": "No round has ended, and no process is at work: go on with ipfl run --resume.",
    "finished": "The run is finished, and has no rounds.",
}

NAMES_SHOWN = 8
RoundIndex = Annotated[int, InPath(description="0-based")]


def create_app(folder: Path, token: str | None) -> FastAPI:
    """The application that shows a run folder, finished or not, and changes nothing in it.

    Args:
      folder: the run folder; it is read again whenever it has changed.
      token: what a reader must show; None serves whoever is on this machine, and refuses names of other hosts.
    """
    reader = Reader(folder)
    app = FastAPI(
        title="ipfl serve",
        version=version("ipfl"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        responses=_REFUSALS,
    )
    app.add_middleware(Guard, token=token)
    _add_pages(app, reader)
    _add_figures(app, reader)
    _add_refusals(app)
    return app


def _add_pages(app: FastAPI, reader: Reader) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        try:
            found = reader.page()
            if found is not None:
                return _sent(found)
            state = reader.state()
        except RunFolderError as error:
            return _sent(
                waiting_page(reader.name, "The run folder cannot be shown", str(error), "damaged", ""), 503
            )
        of = f", 0 of {state.rounds_in_all} rounds" if state.rounds_in_all else ""
        heading = f"{state.state}{of}".capitalize()
        return _sent(
            waiting_page(reader.name, heading, _WAITING[state.state], state.state, state.digest or "")
        )

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return _sent(endpoints_page(app.openapi()))


def _add_figures(app: FastAPI, reader: Reader) -> None:
    """The endpoints of /openapi.json; what their docstrings say stands there."""

    @app.get("/api/state")
    def state() -> answers.State:
        """How far the run has come."""
        return reader.state()

    @app.get("/api/rounds")
    def rounds() -> list[answers.RoundFigures]:
        """The figures of every round so far, without participants."""
        run = reader.run()
        with reader.sound():
            lines = run.rounds if run else []
            return [
                answers.RoundFigures.model_validate(_without(line, "participants", "ineligible"))
                for line in lines
            ]

    @app.get("/api/rounds/{round_index}", responses=_UNKNOWN)
    def one_round(round_index: RoundIndex) -> answers.Round:
        """One round, with what it was for every participant."""
        line = _line(reader.run(), round_index)
        with reader.sound():
            return answers.Round.model_validate(line)

    @app.get("/api/edges", responses=_UNKNOWN)
    def edges(
        round_index: Annotated[
            int | None, Query(description="0-based; the last round if none is named")
        ] = None,
    ) -> list[answers.Edge]:
        """The trades of one round: who bought whose model, and for how much."""
        run = reader.run()
        if round_index is None and (run is None or not run.rounds):
            return []
        line = _line(run, round_index)
        found = [] if run is None else run.edges
        with reader.sound():
            return [
                answers.Edge.model_validate(edge)
                for edge in found
                if edge["round_index"] == line["round_index"]
            ]

    @app.get("/api/participants")
    def participants() -> list[answers.Participant]:
        """Every participant: totals over all rounds so far."""
        run = reader.run()
        with reader.sound():
            return [answers.Participant.model_validate(row) for row in participant_table(run)] if run else []

    @app.get("/api/participants/{participant_id}", responses=_UNKNOWN)
    def one_participant(participant_id: str) -> answers.ParticipantHistory:
        """One participant: totals, and every round so far."""
        run = _run_with(reader.run(), participant_id)
        with reader.sound():
            return _history(run, participant_id)

    @app.get(
        "/api/summary", responses={404: {"model": answers.Problem, "description": "It has not finished yet."}}
    )
    def summary() -> answers.Summary:
        """What the run came to, once it is finished: summary.json."""
        run = reader.run()
        if run is None or run.summary is None:
            done, planned = (len(run.rounds), run.config.rounds) if run else (0, "?")
            raise HTTPException(
                404, f"there is no summary before the run is finished: {done} of {planned} rounds are done"
            )
        with reader.sound():
            return answers.Summary.model_validate(run.summary)


def _add_refusals(app: FastAPI) -> None:
    """One sentence each."""

    @app.exception_handler(RunFolderError)
    def damaged(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 503)

    @app.exception_handler(RequestValidationError)
    def mistyped(request: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        where = first.get("loc", ("parameter",))[-1]
        return JSONResponse({"detail": f"{where}: expected a whole number, got {first.get('input')!r}"}, 422)

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: Exception) -> Response:
        status, detail = (
            (error.status_code, error.detail) if isinstance(error, AnyHTTPException) else (500, "")
        )
        if detail == "Not Found":
            detail = "there is nothing at this address: /docs lists what there is"
        return JSONResponse({"detail": detail}, status)

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:
        return JSONResponse(
            {"detail": "this is a fault of ipfl: the terminal of `ipfl serve` says more"}, 500
        )


def _sent(page: Page, status: int = 200) -> Response:
    return HTMLResponse(page.text, status, {"Content-Security-Policy": page.policy})


def _line(run: Run | None, round_index: int | None) -> dict[str, Any]:
    """A round's record; the last one's for None."""
    lines = run.rounds if run else []
    if round_index is None:
        return lines[-1]
    if not 0 <= round_index < len(lines):
        there = "none has ended yet" if not lines else f"there are rounds 0 to {len(lines) - 1} so far"
        raise HTTPException(404, f"there is no round {round_index}: {there}")
    return lines[round_index]


def _run_with(run: Run | None, participant_id: str) -> Run:
    ids = run.participant_ids if run else []
    if run is not None and participant_id in ids:
        return run
    shown = ", ".join(ids[:NAMES_SHOWN]) + (
        f" and {len(ids) - NAMES_SHOWN:,} more" if len(ids) > NAMES_SHOWN else ""
    )
    there = f"there are {shown}" if ids else "the run has not begun"
    raise HTTPException(404, f"there is no participant {participant_id!r}: {there}")


def _history(run: Run, participant_id: str) -> answers.ParticipantHistory:
    row = next(row for row in participant_table(run) if row["id"] == participant_id)
    history = [
        entry | {"round_index": line["round_index"]}
        for line in run.rounds
        for entry in line["participants"]
        if entry["id"] == participant_id
    ]
    return answers.ParticipantHistory.model_validate(row | {"rounds": history})


def _without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in names}
