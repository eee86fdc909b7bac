"""The files of a folder of one's own, one per participant: which count, and that their names can be ids."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ipfl.data.tasks import NUM_PARTICIPANTS_MIN, check_participant_id
from ipfl.errors import DataError


def participant_files(
    folder: Path,
    endings: Collection[str],
    others: Collection[str],
    formats: str,
    elsewhere: Mapping[str, str] | None = None,
) -> list[Path]:
    """The data files of a folder, sorted by participant id; subfolders, hidden and unknown files are left alone.

    Args:
      folder: where they lie.
      endings: of files that are read, in small letters; capitals do not count.
      others: endings of files that are probably somebody's data: refused, so that nobody is left out unnoticed.
      formats: the endings in words, for errors.
      elsewhere: for some of the others, what else can be done with such a file.
    Raises:
      DataError: no folder, no or too few files, a forbidden or double name, a file in another format.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"data folder {folder} {what}: give a folder with one {formats} file per participant")
    try:
        visible = sorted(
            path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"data folder {folder} cannot be read: {error.strerror}") from None
    unreadable = [path for path in visible if ending(path) in others]
    if unreadable:
        more = (elsewhere or {}).get(ending(unreadable[0]))
        raise DataError(
            f"data folder {folder}: {unreadable[0].name} is in a format that is not read here; "
            f"convert it to {formats}, or take it out" + (f", or {more}" if more else "")
        )
    files = [path for path in visible if ending(path) in endings]
    if len(files) < NUM_PARTICIPANTS_MIN:
        found = f"only {files[0].name}" if files else "no data file"
        raise DataError(
            f"data folder {folder} has {found}: a market needs at least {NUM_PARTICIPANTS_MIN} participants, "
            f"put one {formats} file of each there"
        )
    _check_names(files)
    return sorted(files, key=lambda path: path.stem)


def ending(path: Path) -> str:
    """What a file's name ends with, in small letters.

    >>> ending(Path("a.CSV"))
    '.csv'
    """
    return path.suffix.lower()


def _check_names(files: Sequence[Path]) -> None:
    owner: dict[str, str] = {}
    for path in files:
        check_participant_id(
            path.stem, f"{path.name}: its name without the ending is the participant's id and"
        )
        other = owner.setdefault(path.stem.casefold(), path.name)
        if other != path.name:
            raise DataError(
                f"{other} and {path.name} both name participant {path.stem!r} (capitals do not count): "
                "rename one, or take it out"
            )
