"""MLflow: a run in a local SQLite store inside the run folder, or wherever one is told."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ipfl.experiment.events import RunStarted
from ipfl.run_folder import read_json, write_json
from ipfl.trackers.base import Tracker, own_folder, page_of

BATCH = 100
"""Parameters that MLflow takes in one call."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would report its use over the network
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is away must not hold the run up for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""Set unless the user has set them."""


class MLflow(Tracker):
    """`where`: a tracking URI, or a folder for the store; else MLFLOW_TRACKING_URI, else inside the run folder."""

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    def __init__(self, where: str | None = None):
        super().__init__(where)
        for key, value in QUIET.items():
            os.environ.setdefault(key, value)
        import sqlalchemy  # noqa: F401  (the local store needs it, and mlflow-skinny lacks it)
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._make, self._entities = MlflowClient, entities
        self._client: Any = None
        self._run_id = ""

    def start(self, event: RunStarted, settings: Mapping[str, Any]) -> bool:
        """Begin a run in the experiment `ipfl`, or go on with the one that this run folder began."""
        own = own_folder(event.folder)
        uri, artifacts = self._store(own)
        self._client = self._make(tracking_uri=uri)
        memory = own / "mlflow-run.json"
        known = read_json(memory) if memory.exists() else {}
        if known.get("uri") == uri:
            self._run_id = str(known["run_id"])
            self._client.update_run(self._run_id, status="RUNNING")
            return True
        experiment = self._client.get_experiment_by_name("ipfl")
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment("ipfl", artifact_location=artifacts)
        )
        name = event.folder.absolute().name
        self._run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
        write_json(memory, {"uri": uri, "run_id": self._run_id})
        params = [self._entities.Param(key, str(value)[:500]) for key, value in settings.items()]
        for first in range(0, len(params), BATCH):
            self._client.log_batch(self._run_id, params=params[first : first + BATCH])
        return False

    def log(self, values: Mapping[str, float], round_index: int) -> None:
        """All figures of the round; MLflow takes a thousand in one call."""
        now = int(1000 * time.time())
        found = [self._entities.Metric(key, value, now, round_index) for key, value in values.items()]
        for first in range(0, len(found), 1000):
            self._client.log_batch(self._run_id, metrics=found[first : first + 1000])

    def finish(self, folder: Path, totals: Mapping[str, float]) -> None:
        """The summary as figures, the page and summary.json as artifacts."""
        self.log(totals, 0)
        for path in (page_of(folder), folder / "summary.json"):
            self._client.log_artifact(self._run_id, str(path))
        self._client.set_terminated(self._run_id, "FINISHED")
        self._run_id = ""

    def close(self) -> None:
        """Mark a run that did not finish as killed; a resumed run sets it running again."""
        if self._client is not None and self._run_id:
            run_id, self._run_id = self._run_id, ""
            self._client.set_terminated(run_id, "KILLED")

    def _store(self, own: Path) -> tuple[str, str | None]:
        """Tracking URI and place of artifacts (None: the server's own)."""
        where = self.where or os.environ.get("MLFLOW_TRACKING_URI")
        if where and ("://" in where or where == "databricks"):
            return where, None
        folder = Path(where).absolute() if where else own
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}", (folder / "mlflow-artifacts").as_uri()
