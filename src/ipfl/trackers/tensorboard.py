"""TensorBoard: event files in the run folder. Look at them with `tensorboard --logdir runs`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ipfl.experiment.events import RunStarted
from ipfl.trackers.base import Tracker, own_folder


class TensorBoard(Tracker):
    """`where`: a folder for the event files, instead of tracking/tensorboard in the run folder."""

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboardX"

    def __init__(self, where: str | None = None):
        super().__init__(where)
        from tensorboardX import SummaryWriter

        self._make = SummaryWriter
        self._writer: Any = None

    def start(self, event: RunStarted, settings: Mapping[str, Any]) -> bool:
        """Open a new event file; those of an interrupted run are gone on with."""
        place = Path(self.where) if self.where else own_folder(event.folder) / self.name
        before = len(list(place.glob("*tfevents*")))
        continued = before > 0
        # names of event files count seconds: without a suffix, a run resumed at once would overwrite what it had
        self._writer = self._make(
            str(place), purge_step=event.first_round if continued else None, filename_suffix=f".{before}"
        )
        if not continued:
            rows = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
            self._writer.add_text("configuration", f"| setting | value |\n|---|---|\n{rows}")
        return continued

    def log(self, values: Mapping[str, float], round_index: int) -> None:
        """One scalar each; on disk when the round is."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, round_index)
        self._writer.flush()

    def finish(self, folder: Path, totals: Mapping[str, float]) -> None:
        """The summary, as scalars of one point."""
        for key, value in totals.items():
            self._writer.add_scalar(key, value, 0)

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
