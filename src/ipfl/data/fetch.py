"""Downloading published files: checked against their checksums, resumable, never half-written.

A download grows in `NAME.part`, which an interruption leaves behind and the next attempt goes on from (HTTP
Range). Only what has the published checksum gets the file's name, in one step; anything else is deleted.
"""

import fcntl
import http
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from ipfl.data.published.files import PublishedFile, described, size
from ipfl.errors import DataError

ATTEMPTS = 5
"""Of one file: a connection that is cut after some bytes is made again at once."""
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
CHUNK = 1 << 13
"""Less than this is lost of what came when a connection is cut."""

Progress = Callable[[PublishedFile, int], None]
"""Called with a file and how many of its bytes are here."""


def fetch(
    files: Sequence[PublishedFile],
    folder: Path,
    base_url: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Have `files` in `folder`: what is there with the right checksum stays, the others are downloaded.

    Args:
      files: which.
      folder: where they shall be; made if need be.
      base_url: a mirror: the address of one file, or of the folder that holds them; None: as published.
      progress: called as bytes arrive.
    Returns:
      Their paths.
    Raises:
      DataError: pooch is not installed, nothing can be reached, or what came is not what was published; says
        which file to put where instead.
    """
    return [
        _fetch(file, folder, _address(file, base_url), progress or (lambda file, done: None))
        for file in files
    ]


def part_of(file: PublishedFile, folder: Path) -> Path:
    """Where a download that is not finished lies."""
    return folder / f"{file.name}.part"


def _address(file: PublishedFile, base_url: str | None) -> str:
    if base_url is None or base_url.endswith(f"/{file.name}"):
        return base_url or file.url
    return f"{base_url.rstrip('/')}/{file.name}"


def _fetch(file: PublishedFile, folder: Path, url: str, progress: Progress) -> Path:
    try:
        import pooch
        import requests
    except ImportError:
        raise DataError(
            f"downloading needs pooch: pip install 'ipfl[data]'; or put {described(file)} into {folder} by hand"
        ) from None
    pooch.get_logger().setLevel("WARNING")
    registry = pooch.create(folder, "", registry={file.name: f"md5:{file.md5}"}, urls={file.name: url})
    try:
        return Path(registry.fetch(file.name, downloader=_Download(file, folder, progress)))
    except requests.RequestException as error:
        raise DataError(_unreachable(file, folder, url, reason(error))) from None
    except ValueError:
        raise DataError(
            f"{file.name} from {url} is not the published file (its md5 is not {file.md5}), so what came was "
            "deleted: try again, or another --url"
        ) from None


class _Download:
    """One file's download, as pooch calls it: fill `output_file` from `url`."""

    def __init__(self, file: PublishedFile, folder: Path, progress: Progress):
        self.file, self.folder, self.progress = file, folder, progress

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        part = part_of(self.file, self.folder)
        part.touch()
        with part.open("r+b") as out:
            out.seek(0, os.SEEK_END)
            try:
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(
                    f"{part} is being written by another download: wait for it, or end it"
                ) from None
            self._complete(url, out)
        part.replace(output_file)

    def _complete(self, url: str, out: IO[bytes]) -> None:
        """Go on until the file is whole; give up when an attempt brings nothing, or after a few."""
        import requests

        for attempt in range(1, ATTEMPTS + 1):
            before = out.tell()
            if before >= self.file.num_bytes:
                return
            try:
                if self._receive(url, out):
                    return
                why = "the connection was closed"
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                if out.tell() == before:
                    raise
                why = reason(error)
            if attempt == ATTEMPTS or out.tell() == before:
                raise DataError(
                    f"the download of {self.file.name} was cut at {size(out.tell())} of "
                    f"{size(self.file.num_bytes)} ({why}): run it again to go on from there"
                )

    def _receive(self, url: str, out: IO[bytes]) -> bool:
        """One request for what is lacking; True if the answer came to its end."""
        import requests

        have = out.tell()
        # Compression on the way would make the numbers of bytes mean something else.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
            if answer.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # there is no more: the checksum will tell
            if answer.status_code not in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
                self._refuse(url, f"it answers {answer.status_code} {answer.reason}")
            if answer.status_code == http.HTTPStatus.OK:
                _empty(out)  # all from the beginning: it takes no ranges
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self._refuse(url, "it sends another part of the file than was asked for")
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                self.progress(self.file, out.tell())
                if out.tell() > self.file.num_bytes:
                    _empty(out)
                    self._refuse(url, f"it sends more than the {self.file.num_bytes:,} bytes of the file")
            return "Content-Length" in answer.headers or out.tell() == self.file.num_bytes

    def _refuse(self, url: str, why: str) -> NoReturn:
        raise DataError(_unreachable(self.file, self.folder, url, why))


def _empty(out: IO[bytes]) -> None:
    out.seek(0)
    out.truncate()


def _unreachable(file: PublishedFile, folder: Path, url: str, why: str) -> str:
    by_hand = f"put {described(file)} into {folder} by hand"
    return f"{file.name} cannot be downloaded from {url} ({why}): try again, or {by_hand}"


def reason(error: BaseException) -> str:
    """What is behind an error of the network, in a few words."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer within {READ_TIMEOUT_S} s"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror and not isinstance(seen, requests.RequestException):
            return seen.strerror
        seen = seen.__context__
    return (
        "the connection was cut"
        if isinstance(error, requests.exceptions.ChunkedEncodingError)
        else (str(error).splitlines()[0][:200])
    )
