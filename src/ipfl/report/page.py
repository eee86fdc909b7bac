"""The page of a run: one HTML file that needs no network and shows who paid whom, and why.

HTML, styles and script are separate templates and written into the page. Its content security policy
allows exactly these (by their hashes) and nothing else; the data are JSON in an element that never runs.
"""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from ipfl.report.payload import payload
from ipfl.report.shares import shares_view
from ipfl.report.summary import participant_table, settled, verdict
from ipfl.report.view import view
from ipfl.run_folder import Run, load_run, read_partition, write_text

_HERE = Path(__file__).parent
_SCRIPTS = ("core", "graph", "charts", "tables", "start")
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_page(folder: str | Path) -> Path:
    """Write report.html into a run folder, whole or not at all, and return its path.

    Raises:
      RunFolderError: not a run folder, or report.html cannot be written.
    """
    path = Path(folder) / "report.html"
    write_text(path, render_page(load_run(folder)))
    return path


def render_page(run: Run) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    run = settled(run)
    data = payload(run)
    partition = read_partition(run.path)
    style, charts = _asset("templates/page.css"), _asset("vendor/echarts.min.js")
    script = _script()
    policy = (
        f"default-src 'none'; script-src {_hash(charts)} {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html").render(
        page=data,
        view=view(run, verdict(run), participant_table(run)),
        shares=None if partition is None else shares_view(partition),
        data=embedded(data),
        style=style,
        script=script,
        charts=charts,
        policy=policy,
    )


def embedded(data: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no character of it can end the element.

    >>> embedded({"id": "</script>"})
    '{"id":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return "".join(_UNSAFE.get(letter, letter) for letter in text)


def _script() -> str:
    """The page's own script, one closed scope made of its parts."""
    parts = "\n".join(_asset(f"templates/{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n{{\n{parts}\n}}'


@cache
def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
