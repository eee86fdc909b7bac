"""Weights & Biases: offline unless WANDB_MODE says otherwise; `wandb sync` sends what was kept, if one likes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ipfl.experiment.events import RunStarted
from ipfl.run_folder import read_json, write_json
from ipfl.trackers.base import Tracker, own_folder, page_of


class WandB(Tracker):
    """`where`: the project, instead of `ipfl`."""

    name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    def __init__(self, where: str | None = None):
        super().__init__(where)
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report its faults over the network
        import wandb

        self._wandb = wandb
        self._run: Any = None

    def start(self, event: RunStarted, settings: Mapping[str, Any]) -> bool:
        """Begin a run in tracking/wandb of the run folder, under an id that a resumed run finds again."""
        own = own_folder(event.folder)
        memory = own / "wandb-run.json"
        known = str(read_json(memory)["run_id"]) if memory.exists() else None
        self._run = self._wandb.init(
            project=self.where or "ipfl",
            name=event.folder.absolute().name,
            id=known,
            resume="allow",
            dir=str(own),
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=dict(settings),
        )
        write_json(memory, {"run_id": self._run.id})
        return known is not None

    def log(self, values: Mapping[str, float], round_index: int) -> None:
        """All figures of the round as one step."""
        self._run.log(dict(values), step=round_index)

    def finish(self, folder: Path, totals: Mapping[str, float]) -> None:
        """The summary, and the page as a file of the run."""
        self._run.summary.update({key.removeprefix("summary/"): value for key, value in totals.items()})
        page = page_of(folder)
        self._run.save(str(page), base_path=str(page.parent), policy="now")
        run, self._run = self._run, None
        run.finish()

    def close(self) -> None:
        """Close a run that did not finish."""
        if self._run is not None:
            run, self._run = self._run, None
            run.finish(exit_code=1)
