"""MLflow's local store, read back."""

import warnings

import pytest

from ipfl.run_folder import load_run, read_json
from ipfl.trackers import tracking
from ipfl.trackers.mlflow import MLflow

pytest.importorskip("sqlalchemy")


@pytest.fixture(autouse=True)
def no_server_elsewhere(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def stored_run(folder):
    """(run, its welfare by round, names of its artifacts)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow = pytest.importorskip("mlflow.tracking")
        memory = read_json(folder / "tracking" / "mlflow-run.json")
        client = mlflow.MlflowClient(tracking_uri=memory["uri"])
        history = client.get_metric_history(memory["run_id"], "market/welfare")
        artifacts = [file.path for file in client.list_artifacts(memory["run_id"])]
        return client.get_run(memory["run_id"]), [(one.step, one.value) for one in history], artifacts


@pytest.mark.parametrize("store", ["files", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_an_interrupted_run_is_one_run(store, interrupted, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    asked = "mlflow" if store == "sqlite" else f"mlflow={(tmp_path / 'store').as_uri()}"
    folder = interrupted(tracking([asked]), tracking([asked]))
    assert capsys.readouterr().err == ""
    assert (folder / "tracking" / "mlflow.db").exists() == (store == "sqlite")
    found, welfare, artifacts = stored_run(folder)
    stored = load_run(folder)
    assert welfare == [(line["round_index"], line["welfare"]) for line in stored.rounds]
    assert found.info.status == "FINISHED"
    assert found.info.run_name == folder.name
    assert found.data.params["training.steps"] == "3"
    assert found.data.metrics["summary/total_utility"] == stored.summary["total_utility"]
    assert sorted(artifacts) == ["report.html", "summary.json"]


def test_where_the_store_is(tmp_path, monkeypatch):
    own = tmp_path / "run" / "tracking"
    stores = {
        where: MLflow(where)._store(own)[0] for where in (None, "https://tracker:5000", str(tmp_path / "db"))
    }
    assert stores == {
        None: f"sqlite:///{own}/mlflow.db",
        "https://tracker:5000": "https://tracker:5000",
        str(tmp_path / "db"): f"sqlite:///{tmp_path}/db/mlflow.db",
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team")
    assert MLflow()._store(own) == ("http://team", None)
    assert MLflow("databricks")._store(own) == ("databricks", None)
