"""What `ipfl serve` answers: the run folder as it stands, at every moment of a run, and nothing more."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

import ipfl
import tiny
from ipfl.experiment.events import RoundDone
from ipfl.report import participant_table
from ipfl.run_folder import load_run
from ipfl.serve import reader
from ipfl.serve.app import create_app
from ipfl.upkeep.folder import held
from serve.conftest import ROUNDS

HERE = "http://127.0.0.1:8321"
PATHS = [
    "/api/state",
    "/api/rounds",
    "/api/rounds/{round_index}",
    "/api/edges",
    "/api/participants",
    "/api/participants/{participant_id}",
    "/api/summary",
]


@pytest.fixture(autouse=True)
def probing_at_once(monkeypatch):
    monkeypatch.setattr(reader, "SECONDS_BETWEEN_PROBES", 0.0)


def client(folder, token=None, **options):
    options = {"base_url": HERE, "follow_redirects": False} | options
    return TestClient(create_app(folder, token), **options)


def get(folder, address):
    return client(folder).get(address)


def found_state(ask):
    state = ask.get("/api/state").json()
    return state["state"], state["rounds"], state["rounds_in_all"]


# ---------------------------------------------------------------- the life of a run


def test_state_follows_the_run(grow, tmp_path):
    folder = tmp_path / "market-001"
    folder.mkdir()
    (folder / "environment.json").write_text("{}")
    ask = client(folder)
    with held(folder):
        assert found_state(ask) == ("preparing", 0, None)
    assert found_state(ask) == ("not begun", 0, None)
    (folder / "environment.json").unlink()
    folder.rmdir()
    grow(0)
    with held(folder):
        assert found_state(ask) == ("running", 0, ROUNDS)
        grow(2)
        assert found_state(ask) == ("running", 2, ROUNDS)
    assert found_state(ask) == ("paused", 2, ROUNDS)
    grow(1)  # resumed from an earlier state
    assert found_state(ask) == ("paused", 1, ROUNDS)
    grow(ROUNDS)
    assert found_state(ask) == ("finished", ROUNDS, ROUNDS)
    assert ask.get("/api/state").json()["run"] == "market-001"


def test_a_real_run_is_shown_while_it_has_its_folder_for_itself(tmp_path):
    out, seen = tmp_path / "run", []
    ask = client(out)

    def watch(event):
        if isinstance(event, RoundDone):
            page = ask.get("/")
            seen.append((*found_state(ask), page.status_code, len(ask.get("/api/rounds").json())))

    run = ipfl.run(tiny.config(rounds=2), task=tiny.task(), out=out, watch=watch)
    assert seen == [("running", 1, 2, 200, 1), ("running", 2, 2, 200, 2)]
    state = ask.get("/api/state").json()
    assert (state["state"], state["digest"]) == ("finished", run.environment["run_digest"])
    assert ask.get("/api/summary").json() == run.summary
    assert ask.get("/api/rounds/1").json() == run.rounds[1]


def test_page_waits_for_the_first_round_and_is_made_once_a_round(grow, monkeypatch):
    made = []
    render = reader.render_page
    monkeypatch.setattr(reader, "render_page", lambda run: made.append(len(run.rounds)) or render(run))
    ask = client(grow(0))
    waiting = ask.get("/")
    assert waiting.status_code == 200
    assert f"Paused, 0 of {ROUNDS} rounds" in waiting.text
    assert made == []
    for rounds in (1, 3, ROUNDS):
        grow(rounds)
        pages = [ask.get("/").text for _ in range(3)]
        assert f'id="live" role="status" data-rounds="{rounds}"' in pages[0]
        assert len(set(pages)) == 1
    assert made == [1, 3, ROUNDS]
    assert 'data-state="finished"' in pages[0]


def test_nothing_in_the_folder_is_changed(grow):
    folder = grow(ROUNDS)

    def found():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}

    before, ask = found(), client(folder)
    for address in ("/", "/docs", *(path for path in PATHS if "{" not in path)):
        assert ask.get(address).status_code == 200
    assert found() == before


def test_a_round_that_ends_while_the_files_are_read_is_not_half_there(grow, monkeypatch):
    folder, load = grow(ROUNDS - 1), reader.load_run

    def slow(path):
        run = load(path)
        if len(run.rounds) < ROUNDS:
            grow(ROUNDS)
            return ipfl.Run(**vars(run) | {"summary": {}})
        return run

    monkeypatch.setattr(reader, "load_run", slow)
    ask = client(folder)
    assert found_state(ask) == ("finished", ROUNDS, ROUNDS)
    assert ask.get("/api/summary").json()["rounds"] == ROUNDS


def test_many_ask_while_rounds_end(grow):
    grow(0)
    ask = client(grow(0))
    with ThreadPoolExecutor(4) as pool:
        answers = []
        for rounds in range(ROUNDS + 1):
            grow(rounds)
            answers += [
                pool.submit(ask.get, address) for address in ("/api/state", "/api/rounds", "/api/edges")
            ]
        assert {answer.result().status_code for answer in answers} == {200}


# ---------------------------------------------------------------- the figures


def test_figures_are_those_of_the_folder(grow):
    folder = grow(ROUNDS)
    run, ask = load_run(folder), client(folder)

    def asked(address):
        answer = ask.get(address)
        assert answer.status_code == 200, answer.text
        return answer.json()

    figures = asked("/api/rounds")
    assert figures == [
        {key: value for key, value in line.items() if key != "participants"} for line in run.rounds
    ]
    assert asked("/api/rounds/2") == run.rounds[2] | {"ineligible": []}
    assert asked("/api/edges?round_index=1") == [edge for edge in run.edges if edge["round_index"] == 1]
    assert asked("/api/edges") == [edge for edge in run.edges if edge["round_index"] == ROUNDS - 1]
    assert asked("/api/participants") == participant_table(run)
    name = run.participant_ids[1]
    history = asked(f"/api/participants/{name}")
    assert history.pop("rounds") == [
        line["participants"][1] | {"round_index": i} for i, line in enumerate(run.rounds)
    ]
    assert history == participant_table(run)[1]
    assert asked("/api/summary") == json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize(
    ("rounds", "address", "status", "sentence"),
    [
        (2, "/api/rounds/2", 404, "there is no round 2: there are rounds 0 to 1 so far"),
        (2, "/api/rounds/-1", 404, "there is no round -1: there are rounds 0 to 1 so far"),
        (0, "/api/rounds/0", 404, "there is no round 0: none has ended yet"),
        (2, "/api/edges?round_index=7", 404, "there is no round 7: there are rounds 0 to 1 so far"),
        (2, "/api/edges?round_index=one", 422, "round_index: expected a whole number, got 'one'"),
        (
            2,
            "/api/participants/nobody",
            404,
            "there is no participant 'nobody': there are clinic-00, clinic-01, clinic-02, clinic-03, clinic-04",
        ),
        (2, "/api/summary", 404, "there is no summary before the run is finished: 2 of 4 rounds are done"),
        (2, "/api/models", 404, "there is nothing at this address: /docs lists what there is"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(grow, rounds, address, status, sentence):
    answer = get(grow(rounds), address)
    assert (answer.status_code, answer.json()) == (status, {"detail": sentence})


def test_before_the_run_begins_there_are_no_figures(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    ask = client(tmp_path)
    for address in ("/api/rounds", "/api/edges", "/api/participants"):
        assert ask.get(address).json() == []
    assert (
        ask.get("/api/participants/a").json()["detail"]
        == "there is no participant 'a': the run has not begun"
    )
    assert "cut off before its first round" in ask.get("/").text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rounds.jsonl", "{]\n", "rounds.jsonl, line 1, is not valid JSON: restore it or run again"),
        ("edges.csv", "a,b\n", "edges.csv has columns ['a', 'b'], expected "),
        ("config.toml", "rounds = [", "config.toml"),
        ("environment.json", "[" * 100_000, ""),
        (
            "rounds.jsonl",
            '{"round_index": 0}\n',
            "the records of market-001 are not as ipfl writes them (KeyError)",
        ),
        ("summary.json", '{"participants": 3}', "the records of market-001 are not as ipfl writes them"),
    ],
)
def test_a_damaged_folder_is_named_and_shown_again_when_it_is_mended(grow, name, content, sentence):
    folder = grow(ROUNDS)
    ask, kept = client(folder), (folder / name).read_text()
    assert ask.get("/").status_code == 200
    (folder / name).write_text(content)
    page = ask.get("/")
    assert page.status_code == 503
    assert 'data-state="damaged"' in page.text
    texts = [page.text] + [ask.get(path).text for path in ("/api/state", "/api/participants", "/api/summary")]
    assert any(sentence in text for text in texts)
    assert not any(str(folder.parent) in text or "Traceback" in text for text in texts)
    (folder / name).write_text(kept)
    assert ask.get("/").status_code == 200


def test_a_folder_that_is_gone(grow):
    folder = grow(1)
    ask = client(folder)
    folder.rename(folder.with_name("elsewhere"))
    answer = ask.get("/api/state")
    assert answer.status_code == 503
    assert answer.json() == {
        "detail": "no run folder at market-001: give the folder that `ipfl run --out` wrote"
    }
    assert ask.get("/").status_code == 503


def test_a_fault_of_our_own_is_a_sentence_too(grow, monkeypatch):
    monkeypatch.setattr(reader.Reader, "state", lambda self: 1 / 0)
    answer = client(grow(1), raise_server_exceptions=False).get("/api/state")
    assert (answer.status_code, list(answer.json())) == (500, ["detail"])


# ---------------------------------------------------------------- the description


def test_every_endpoint_and_answer_is_described(grow):
    ask = client(grow(1))
    description = ask.get("/openapi.json").json()
    assert list(description["paths"]) == PATHS
    for path, operations in description["paths"].items():
        assert list(operations) == ["get"], path
        responses = operations["get"]["responses"]
        assert operations["get"]["description"]
        assert responses["200"]["content"]["application/json"]["schema"]
        for code, response in responses.items():
            if code != "200":
                assert response["content"]["application/json"]["schema"] == {
                    "$ref": "#/components/schemas/Problem"
                }
    listed = ask.get("/docs").text
    for path in PATHS:
        assert path in listed
    for name in description["components"]["schemas"]:
        assert f'id="{name}"' in listed


def test_pages_load_nothing_from_elsewhere(grow):
    ask = client(grow(0))
    for address in ("/", "/docs"):
        assert re.findall(r"https?://|<script[^>]+src|<link(?![^>]+data:,)", ask.get(address).text) == []
    assert ask.get("/redoc").status_code == 404
    grow(1)
    for address in ("/", "/docs"):
        page = ask.get(address)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "http" not in policy


def test_places_on_this_machine_are_not_told(grow):
    folder = grow(1)
    path = folder / "environment.json"
    plugin = "/home/someone/secret-project/attack's.py"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"plugins": {plugin: "0f"}, "model": "/x/models/cnn"})
    )
    text = get(folder, "/").text
    assert "…/attack&#39;s.py" in text
    assert "secret-project" not in text
    assert "/x/models" not in text.partition("<footer>")[2].partition("</footer>")[0]
    assert str(folder.parent) not in text
