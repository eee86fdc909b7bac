import json
import sys
from pathlib import Path

import pytest

from ipfl.bench.meter import Meter, print_result
from ipfl.bench.processes import Paced, in_child
from ipfl.errors import EngineError

POLITE = """
import sys
print("ready", flush=True)
for _ in range(int(sys.argv[1])):
    assert sys.stdin.readline() == "go\\n"
    print("done", flush=True)
print('{"rounds": ' + sys.argv[1] + "}")
"""


def paced(code: str, *arguments: str) -> Paced:
    return Paced("a toy", [sys.executable, "-c", code, *arguments])


def test_a_system_does_its_rounds_when_it_is_told_to() -> None:
    with paced(POLITE, "3") as toy, paced(POLITE, "3") as other:
        toy.wait_until_ready()
        other.wait_until_ready()
        for _ in range(3):
            toy.round()
            other.round()
        assert toy.result() == other.result() == {"rounds": 3}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('no such data')", "measuring a toy failed: no such data"),
        ("import sys; sys.exit(7)", "measuring a toy failed: it ended with 7"),
        ("print('hello')", "measuring a toy failed: it said 'hello', expected 'ready'"),
    ],
)
def test_a_system_that_fails_to_set_up_says_why(code: str, message: str) -> None:
    with paced(code) as toy, pytest.raises(EngineError) as caught:
        toy.wait_until_ready()
    assert str(caught.value) == message


def test_a_system_that_dies_in_a_round_says_why() -> None:
    with paced("print('ready', flush=True); input(); raise ValueError('out of luck')") as toy:
        toy.wait_until_ready()
        with pytest.raises(EngineError, match="measuring a toy failed: ValueError: out of luck"):
            toy.round()


def test_a_system_that_has_ended_does_no_more_rounds() -> None:
    with paced("print('ready', flush=True)") as toy:
        toy.wait_until_ready()
        toy._process.wait()
        with pytest.raises(EngineError, match="measuring a toy failed: it ended with 0"):
            toy.round()


def test_no_system_is_left_behind() -> None:
    with paced(POLITE, "3") as toy:
        toy.wait_until_ready()
        assert toy._process.poll() is None
    assert toy._process.poll() is not None


@pytest.mark.parametrize(
    "code", ["print('ready')", "print('ready'); print('[1]')", "print('ready'); print('so')"]
)
def test_figures_must_be_one_object(code: str) -> None:
    with paced(code) as toy:
        toy.wait_until_ready()
        with pytest.raises(EngineError, match="measuring a toy failed: it printed no figures"):
            toy.result()


def test_a_result_that_comes_with_an_error_is_no_result() -> None:
    with paced("print('ready', flush=True); print({}); raise SystemExit('late')") as toy:
        toy.wait_until_ready()
        with pytest.raises(EngineError, match="late"):
            toy.result()


def test_a_child_that_prints_no_figures_is_an_error() -> None:
    with pytest.raises(EngineError, match="measuring the zen failed: it printed no figures"):
        in_child("this", [], "the zen")
    with pytest.raises(EngineError, match=r"measuring nothing failed: .*No module named"):
        in_child("no_such_module_here", [], "nothing")


def test_the_meter_leaves_the_warm_up_out(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(2, paced=False)
    for index in meter.rounds():
        with meter.part("train"):
            sum(range(10))
        meter.add("train", 10.0 + index, 1.0)
        meter.say(steps=index)
    result = meter.report(threads=1)
    assert (len(result["rounds"]), result["threads"]) == (2, 1)
    assert result["warm_up"]["steps"] == 0
    assert result["median"]["steps"] == 1.5
    assert 11.5 < result["median"]["train"] < 11.6
    assert {"cpu_train", "total"} <= result["median"].keys()
    print_result(result)
    assert json.loads(capsys.readouterr().out) == result


def test_the_meter_waits_for_the_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "go").write_text("go\n")
    with (tmp_path / "go").open() as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        meter = Meter(1, paced=True)
        with pytest.raises(EngineError, match="standard input ended before the last round"):
            list(meter.rounds())
    assert len(meter.finished) == 1
