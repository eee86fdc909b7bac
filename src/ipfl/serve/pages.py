"""The pages: a run's, made to follow it; the one before the first round; and the list of endpoints.

Each allows, by their hashes, its own style and script and nothing else; the first two may ask this server.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ipfl.errors import check
from ipfl.run_folder import Run

_POLICY = re.compile(r'(<meta http-equiv="Content-Security-Policy" content=")([^"]*)(">)')
_END = "</body>"


@dataclass(frozen=True)
class Page:
    """A page and the policy that it goes out with."""

    text: str
    policy: str


def live_page(report: str, run: Run) -> Page:
    """The page of a run with a note on how far it is, and a script that loads the page again when a round has ended."""
    found = _POLICY.search(report)
    check(
        found is not None and report.rstrip().endswith("</html>") and _END in report,
        "a report is a whole page",
    )
    policy = html.unescape(found[2]) if found else ""
    style, script = _asset("live.css"), _script()
    policy = policy.replace("style-src ", f"style-src {_hash(style)} ").replace(
        "script-src ", f"script-src {_hash(script)} "
    )
    policy += "; connect-src 'self'"
    finished = "finished" if run.finished else ""
    added = (
        f"<style>{style}</style>\n"
        f'<p id="live" role="status" data-rounds="{len(run.rounds)}" data-state="{finished}" '
        f'data-digest="{html.escape(digest_of(run))}" hidden></p>\n'
        f"<script>{script}</script>\n"
    )
    before, _, after = report.rpartition(_END)
    text = _POLICY.sub(lambda match: f"{match[1]}{html.escape(policy)}{match[3]}", before, count=1)
    return Page(f"{text}{added}{_END}{after}", _framed(policy))


def waiting_page(title: str, heading: str, sentence: str, state: str, digest: str) -> Page:
    """What is shown while there is nothing to show; it looks by itself whether `state` has changed."""
    style, script = _asset("plain.css") + "\n" + _asset("live.css"), _script()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    text = _template("waiting.html").render(
        title=title,
        heading=heading,
        sentence=sentence,
        state=state,
        digest=digest,
        style=style,
        script=script,
        policy=policy,
    )
    return Page(text, _framed(policy))


def digest_of(run: Run) -> str:
    """What tells a run from another in the same folder; empty in runs from before that was kept."""
    return str(run.environment.get("run_digest") or "")


def endpoints_page(description: Mapping[str, Any]) -> Page:
    """The endpoints in words, from their OpenAPI description; FastAPI's own page would load scripts from elsewhere."""
    style = _asset("plain.css")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    models = description["components"]["schemas"]
    endpoints = [
        _endpoint(path, operation)
        for path, operations in description["paths"].items()
        for operation in operations.values()
    ]
    answers = [
        (
            name,
            model.get("description", ""),
            [(key, _type(field), field.get("description", "")) for key, field in model["properties"].items()],
        )
        for name, model in sorted(models.items())
        if "properties" in model
    ]
    text = _template("endpoints.html").render(
        about=description["info"], endpoints=endpoints, answers=answers, style=style, policy=policy
    )
    return Page(text, _framed(policy))


def _endpoint(path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return {
        "path": path,
        "open": "{" not in path,
        "description": operation["description"],
        "parameters": [
            (each["name"], _type(each["schema"]), each.get("description", ""))
            for each in operation.get("parameters", ())
        ],
        "answer": _type(answer),
        "refusals": [
            (code, response["description"])
            for code, response in operation["responses"].items()
            if code != "200"
        ],
    }


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a word or two.

    >>> _type({"anyOf": [{"type": "integer"}, {"type": "null"}]})
    'integer or null'
    >>> _type({"type": "array", "items": {"$ref": "#/components/schemas/Edge"}})
    'list of Edge'
    """
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(json.dumps(each) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("format") == "date-time":
        return "date and time"
    return str(schema.get("type", "anything"))


def _framed(policy: str) -> str:
    """What only a header can say: no other page may hold this one in a frame."""
    return f"{policy}; frame-ancestors 'none'"


def _script() -> str:
    return f'"use strict";\n{{\n{_asset("live.js")}\n}}'


def _template(name: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset(name))


@cache
def _asset(name: str) -> str:
    return files("ipfl.serve").joinpath("templates", name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
