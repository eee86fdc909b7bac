"""What a participant keeps on its own disk: its model and the yardstick, its last reply, its bills, and its secret.

`state.safetensors` is replaced as a whole after every round, flushed before the reply leaves: so a reply that somebody
may have seen is never forgotten. What it was after the round before stays beside it. `bills.jsonl` grows by a line per
bill, flushed before it is acknowledged.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ipfl.errors import RunFolderError
from ipfl.run_folder import append_lines, write_bytes, write_json, write_text
from ipfl.tensor_file import read_any

BYTES_MAX = 1 << 36
STATE, BEFORE = "state.safetensors", "state-before.safetensors"
BILLS, MARKET, SECRET, LOST = "bills.jsonl", "market.json", "noise.key", "lost-home"
ABOUT = ("round_index", "works", "alone_rounds", "private_steps", "first_round")


@dataclass(frozen=True, eq=False)
class Kept:
    """The state after a round: `works` are the digests of what was asked in each of its parts, `reply` what was
    answered in the last; the digest of a part that it was not asked in is empty.

    `alone` is the yardstick, trained until before round `alone_rounds`; `private_steps` are all that were taken with
    noise. `unbilled` are the rounds that were answered and whose bill has not come, by their numbers: the bid that was
    told in each, and the private steps by then. `first_round` is the first that was trained in this folder.
    """

    round_index: int
    works: tuple[str, ...]
    params: np.ndarray
    buffers: np.ndarray
    alone: np.ndarray
    alone_buffers: np.ndarray
    alone_rounds: int
    reply: Mapping[str, Any] = field(default_factory=dict)
    judged: Mapping[str, np.ndarray] = field(default_factory=dict)
    private_steps: int = 0
    unbilled: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    first_round: int = 0

    @property
    def part(self) -> int:
        """The last part of the round that was trained."""
        return len(self.works) - 1


class OwnDisk:
    """A participant's folder. Only the participant reads and writes it."""

    def __init__(self, folder: Path):
        """Make the folder, readable by its owner alone, or take up what is in it.

        Raises:
          RunFolderError: it cannot be made, or what it holds is damaged.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise RunFolderError(f"cannot make {folder}: {error.strerror}; give another --home") from None
        self._kept: Kept | None = None
        self.bills: list[dict[str, Any]] = self._read_bills()

    def market(self) -> dict[str, Any] | None:
        """What was agreed with the market; None before."""
        path = self.folder / MARKET
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}): restore it, or give another --home"
            ) from None
        return dict(found)

    def agree(self, content: Mapping[str, Any]) -> None:
        """Remember what was agreed."""
        write_json(self.folder / MARKET, content)

    def lost_before(self) -> bool:
        """Whether it stands in for a folder that was lost: there are bills of rounds that it knows nothing of."""
        return (self.folder / LOST).exists()

    def note_lost(self) -> None:
        """Remember that it stands in for a folder that was lost."""
        write_text(self.folder / LOST, "bills of rounds before this folder was made are taken as they come\n")

    def noise_seed(self) -> int:
        """The secret that private training draws its noise from: made once, and known to nobody else."""
        path = self.folder / SECRET
        if not path.exists():
            write_text(path, secrets.token_hex(16))
            path.chmod(0o600)
        return int(path.read_text(encoding="utf-8"), 16)

    def kept(self) -> Kept | None:
        """The state after the last round that was trained; None before the first.

        Raises:
          RunFolderError: the file is damaged.
        """
        if self._kept is None:
            self._kept = _read(self.folder / STATE)
        return self._kept

    def kept_before(self) -> Kept | None:
        """The state after the last round that was trained before that one; None where there is none.

        Raises:
          RunFolderError: the file is damaged.
        """
        return _read(self.folder / BEFORE)

    def keep(self, kept: Kept) -> None:
        """Replace the state, flushed to the disk; that of the round before stays."""
        before = self.kept()
        arrays = {
            "params": kept.params,
            "buffers": kept.buffers,
            "alone": kept.alone,
            "alone_buffers": kept.alone_buffers,
            **{f"judged/{name}": array for name, array in kept.judged.items()},
        }
        about = {name: getattr(kept, name) for name in ABOUT}
        unbilled = {str(number): dict(told) for number, told in kept.unbilled.items()}
        text = json.dumps({**about, "reply": dict(kept.reply), "unbilled": unbilled})
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"about": text})
        with _in_own_words(self.folder / STATE):
            if before is not None and before.round_index < kept.round_index:
                write_bytes(self.folder / BEFORE, (self.folder / STATE).read_bytes())
            write_bytes(self.folder / STATE, content)
        self._kept = replace(kept)

    def add_bill(self, bill: Mapping[str, Any]) -> None:
        """Keep a bill, flushed to the disk; of one that could not be written whole nothing stays."""
        path = self.folder / BILLS
        length = path.stat().st_size if path.exists() else 0
        with _in_own_words(path):
            try:
                append_lines(path, [json.dumps(bill, sort_keys=True)])
            except RunFolderError:
                with suppress(OSError):
                    os.truncate(path, length)
                raise
        self.bills.append(dict(bill))

    def _read_bills(self) -> list[dict[str, Any]]:
        """All whole bills; half a line, which a crash may leave, was never acknowledged and is cut off."""
        path = self.folder / BILLS
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            return [json.loads(line) for line in whole.decode("utf-8").split("\n") if line]
        except ValueError as error:
            raise RunFolderError(f"{path} is damaged ({error}): restore it from a copy") from None


@contextmanager
def _in_own_words(path: Path) -> Iterator[None]:
    """Say of a file that cannot be written what a participant can do about it."""
    try:
        yield
    except RunFolderError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        reason = error.__cause__.strerror
        raise RunFolderError(
            f"cannot write {path}: {reason}; free space, then start `ipfl join` again"
        ) from None


def _read(path: Path) -> Kept | None:
    if not path.exists():
        return None
    arrays, texts = read_any(
        path,
        bytes_max=BYTES_MAX,
        what_to_do="restore it, or remove it to begin from the start",
        finite=False,
    )
    about = json.loads(texts["about"])
    start = "judged/"
    return Kept(
        round_index=about["round_index"],
        works=tuple(about["works"]),
        params=arrays["params"],
        buffers=arrays["buffers"],
        alone=arrays["alone"],
        alone_buffers=arrays["alone_buffers"],
        alone_rounds=about["alone_rounds"],
        reply=about["reply"],
        judged={name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)},
        private_steps=about["private_steps"],
        unbilled={int(number): told for number, told in about["unbilled"].items()},
        first_round=about["first_round"],
    )
