"""Plug-ins: the examples of the documentation at work, and what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ipfl
from ipfl import plugins
from ipfl.cli.main import entry as command_line
from ipfl.conduct import CONDUCTS
from ipfl.data.catalogue import CATALOGUE, TASKS
from ipfl.data.partition import KINDS
from ipfl.errors import CheckpointError, ConfigError
from ipfl.market.curves import FAMILIES
from ipfl.methods import METHODS

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
REGISTRIES = (METHODS, CONDUCTS, CATALOGUE, TASKS, KINDS, FAMILIES)


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Whatever a test plugs in is taken out again."""
    before = [dict(registry) for registry in REGISTRIES]
    monkeypatch.setattr(plugins, "_files", {})
    yield
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)


QUICK = ["training.steps=3", "participants.count=4", "model=mlp", "engine.block=1"]
SET_QUICK = [part for setting in QUICK for part in ("--set", setting)]


def small(*settings):
    return ipfl.load_config("paper", ["rounds=2", *QUICK, *settings])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_documentation_shows_the_examples_as_they_are(path):
    page = (EXAMPLES.parent / "plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert path.read_text(encoding="utf-8") in blocks
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_a_method(tmp_path):
    plugins.load_file(EXAMPLES / "median_method.py")
    run = ipfl.run(small("method=median", "methods.median.keep=0.25"), out=tmp_path / "run")
    assert run.config.methods == {"median": {"keep": 0.25}}
    assert len(run.edges) == 2 * 4 * 3
    assert run.environment["plugins"] == {"median_method.py": plugins.described()["median_method.py"]}
    with pytest.raises(ConfigError, match=r"methods\.median: unknown setting 'kep'; did you mean 'keep'\?"):
        ipfl.run(small("method=median", "methods.median.kep=0.25"), out=tmp_path / "other")


def test_a_method_moves_to_the_median():
    from ipfl.experiment import drive
    from ipfl.methods import build_method
    from tiny import StepEngine, federation

    plugins.load_file(EXAMPLES / "median_method.py")
    method = build_method("median", federation((1, 1, 1), (1.0,) * 3, (0.0,) * 3), {"keep": 0.5})
    state, _ = drive(method.round(method.init()), StepEngine(np.array([[2, 0], [4, 2], [20, 4]]), (1, 1, 1)))
    np.testing.assert_allclose(state.params, [[1, 0], [2, 1], [10, 2]])
    np.testing.assert_allclose(state.arrays["start"], [[1.5, 0.5], [2, 1], [6, 1.5]])


def test_a_task(tmp_path):
    plugins.load_file(EXAMPLES / "rings_task.py")
    config = small("task=rings", "partition.kind=niid", "partition.sizes=equal")
    run = ipfl.run(config, out=tmp_path / "run")
    assert run.environment["class_names"] == ["inner", "middle", "outer"]
    assert sum(row["num_examples"] for row in run.summary["participants"]) == 720
    assert "rings" in TASKS


def test_a_partition(tmp_path):
    plugins.load_file(EXAMPLES / "two_sizes_partition.py")
    run = ipfl.run(small("partition.kind=two_sizes"), out=tmp_path / "run")
    sizes = [row["num_examples"] for row in run.summary["participants"]]
    assert sum(sizes) == 1438
    assert [round(size / sizes[0]) for size in sizes] == [1, 1, 3, 3]


def test_an_attack(tmp_path):
    plugins.load_file(EXAMPLES / "halfway_attack.py")
    run = ipfl.run(small("participants.attackers=1", "participants.attack=halfway"), out=tmp_path / "run")
    assert run.summary["participants"][-1]["conduct"] == "halfway"
    published = CONDUCTS["halfway"](np.ones((2, 4), np.float32), 0, np.random.default_rng(0))
    assert published.tolist() == [1, 1, -1, -1]


def test_a_gain_curve(tmp_path):
    plugins.load_file(EXAMPLES / "saturating_curve.py")
    config = small("market.gain_curve=saturating:enough=300", "participants.valuation=1000.0")
    run = ipfl.run(config, out=tmp_path / "run")
    sizes = {row["id"]: row["num_examples"] for row in run.summary["participants"]}
    line = run.rounds[0]
    for entry in line["participants"]:
        bought = [e["seller"] for e in run.edges if e["round_index"] == 0 and e["buyer"] == entry["id"]]
        n = sizes[entry["id"]]
        total = n + sum(sizes[name] for name in bought)
        expected = np.sqrt(1000.0) * (np.exp(-n / 300) - np.exp(-total / 300))
        assert entry["gain"] == pytest.approx(expected)
    assert run.edges
    with pytest.raises(ConfigError, match="saturating"):
        ipfl.run(small("market.gain_curve=saturating:much=3"), out=tmp_path / "other")


def test_a_run_is_resumed_with_the_plug_in_it_was_begun_with(tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(event):
        if hasattr(event, "line"):
            raise StopError

    file = tmp_path / "mine.py"
    file.write_text((EXAMPLES / "median_method.py").read_text(encoding="utf-8"), encoding="utf-8")
    plugins.load_file(file)
    with pytest.raises(StopError):
        ipfl.run(small("method=median"), out=tmp_path / "run", watch=stop)

    def resumed():
        return ipfl.resume(tmp_path / "run")

    monkeypatch.setattr(plugins, "_files", {})
    with pytest.raises(
        CheckpointError, match=r"plug-in mine\.py, which is not loaded: give it .*--plugin mine\.py"
    ):
        resumed()
    del METHODS["median"]
    file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    plugins.load_file(file)
    with pytest.raises(CheckpointError, match=r"plug-in mine\.py, which has changed since"):
        resumed()
    monkeypatch.setattr(plugins, "_files", {})
    del METHODS["median"]
    file.write_text(file.read_text(encoding="utf-8").removesuffix("# changed\n"), encoding="utf-8")
    plugins.load_file(file)
    assert resumed().finished


def test_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "ipfl", "run", "paper", "--plugin", str(EXAMPLES / "median_method.py")]
    settings = ["--set", "method=median", "--set", "rounds=1", *SET_QUICK]
    done = subprocess.run(
        [*command, *settings, "--out", str(tmp_path / "run"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["method"] == "median"


def test_a_comparison_has_its_processes_load_the_same(tmp_path, monkeypatch, capsys):
    """The run itself is made in another process, which finds the method only if it loads the file."""
    out = tmp_path / "out"
    command = ["ipfl", "compare", "paper", "--plugin", str(EXAMPLES / "median_method.py"), "--workers", "1"]
    settings = ["--methods", "median,local", "--seeds", "0", "--set", "rounds=1", *SET_QUICK]
    monkeypatch.setattr(sys, "argv", [*command, *settings, "--out", str(out), "--json"])
    command_line()
    rows = json.loads(capsys.readouterr().out)["methods"]
    assert [row["method"] for row in rows] == ["median", "local"]
    plugged = ipfl.load_run(out / "runs" / "paper" / "median" / "seed-0").environment["plugins"]
    assert list(plugged) == ["median_method.py"]


def test_an_installed_plug_in_is_found_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "others_plugin.py").write_text(
        "from ipfl.plugins import conduct\n\n@conduct('tenth')\ndef tenth(updates, row, random):\n"
        "    return updates[row] / 10\n",
        encoding="utf-8",
    )
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ipfl.plugins]\nothers = others_plugin\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_installed", [])
    plugins.load_installed()
    plugins.load_installed()  # once is enough
    assert "tenth" in CONDUCTS
    assert plugins.described() == {"others (others_plugin)": "installed"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise ValueError('no')\n", r"plug-in .*bad\.py, line 1: ValueError: no"),
        ("x = 1\n\ny = (\n", r"plug-in .*bad\.py, line 3: SyntaxError: "),
        (
            "from ipfl.plugins import conduct\nconduct('honest')(None)\n",
            r"plug-in .*bad\.py: attack 'honest' is there already: choose another name",
        ),
        (
            "from ipfl.plugins import method\nmethod('My Method')\n",
            r"plug-in .*bad\.py: method 'My Method': a name is 1 to 40 of a-z 0-9 _",
        ),
    ],
)
def test_a_plug_in_that_fails_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "bad.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        plugins.load_file(file)
    assert plugins.loaded_files() == ()


def test_a_plug_in_that_is_not_there_or_no_python(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read plug-in .*none\.py: No such file or directory"):
        plugins.load_file(tmp_path / "none.py")
    (tmp_path / "mine.txt").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.txt is no Python file: its name must end in \.py"):
        plugins.load_file(tmp_path / "mine.txt")


def test_a_file_is_loaded_once(tmp_path):
    plugins.load_files([EXAMPLES / "halfway_attack.py", EXAMPLES / "halfway_attack.py"])
    assert plugins.loaded_files() == (str(EXAMPLES / "halfway_attack.py"),)
