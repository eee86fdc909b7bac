"""What it takes that something written survives a loss of power."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that names given or taken in it survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
