"""PACS (Li et al., 2017): 9,991 pictures of 7 things in 4 styles; the style is the group of the source.

Read from folders domain/class/picture as they are published, here or one folder further in (as in `kfold/`). There
is no test part: what is kept for testing is the partition's choice.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ipfl.data.published.files import Inspection, absent
from ipfl.data.published.pixels import standardised
from ipfl.data.sources import Source
from ipfl.errors import DataError

SITE = "https://domaingeneralization.github.io/#data"
DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
PUBLISHED_COUNTS = (2048, 2344, 1670, 3929)
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
ENDINGS = (".jpg", ".jpeg", ".png")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as the field uses for PACS, per channel, in units of 255."""


def pacs(folder: Path, side: int = 64) -> Source:
    """All pictures, 3 x side x side (resized from 227 x 227), standardised per channel; groups are domains.

    Args:
      folder: holds the four domains.
      side: of the resized pictures, in pixels.
    Raises:
      DataError: a domain or class is not there, a picture is damaged, or Pillow is not installed; names it.
    """
    root = _root(folder)
    lacking = [] if root is None else _lacking(root)
    if root is None or lacking:
        what = f"; lacking: {', '.join(lacking)}" if lacking else ""
        raise absent("pacs", folder, f"{put(folder)}{what}")
    images, y, groups = [], [], []
    for path, label, domain in _pictures(root):
        images.append(_image(path, side))
        y.append(label)
        groups.append(domain)
    x = standardised(np.stack(images), MEAN, DEVIATION)
    return Source(x, np.array(y, np.int64), CLASSES, np.array(groups, np.int64), DOMAINS)


def inspect_pacs(folder: Path) -> Inspection:
    """Counts the pictures of each domain, without opening them, and compares with what was published."""
    root = _root(folder)
    if root is None:
        return Inspection(folder, lacking=(put(folder),))
    counts = np.bincount([domain for _, _, domain in _pictures(root)], minlength=len(DOMAINS))
    found = tuple(
        f"{domain}: {count:,} of {published:,} pictures"
        for domain, count, published in zip(DOMAINS, counts, PUBLISHED_COUNTS, strict=True)
        if count
    )
    return Inspection(folder, found, tuple(f"{name}: {put(folder)}" for name in _lacking(root)))


def put(folder: Path) -> str:
    """Which folders to put where, in words."""
    return (
        f"put the folders {', '.join(DOMAINS)}, each with 7 folders of pictures (9,991 in all, from {SITE}), "
        f"into {folder}"
    )


def _root(folder: Path) -> Path | None:
    """Where the domains are: in `folder`, or in a folder of it."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for root in (folder, *inside):
        if any((root / domain).is_dir() for domain in DOMAINS):
            return root
    return None


def _lacking(root: Path) -> list[str]:
    """Every domain, or class of a domain, without a picture."""
    there = {(domain, label) for _, label, domain in _pictures(root)}
    lacking = []
    for domain, domain_name in enumerate(DOMAINS):
        missing = [name for label, name in enumerate(CLASSES) if (domain, label) not in there]
        whole = len(missing) == len(CLASSES)
        lacking += [domain_name] if whole else [f"{domain_name}/{name}" for name in missing]
    return lacking


def _pictures(root: Path) -> Iterator[tuple[Path, int, int]]:
    """Path, class and domain of every picture, in a fixed order."""
    for domain, domain_name in enumerate(DOMAINS):
        for label, name in enumerate(CLASSES):
            for path in sorted((root / domain_name / name).glob("*")):
                if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
                    yield path, label, domain


def _image(path: Path, side: int) -> UInt8[np.ndarray, "3 side side"]:
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading pictures needs Pillow: install it with pip install 'ipfl[data]'") from None
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        where = "/".join(path.parts[-3:])
        reason = str(error).replace(str(path), path.name).splitlines()[0][:200]
        raise DataError(
            f"{where} cannot be read as a picture ({reason}); put the published one there"
        ) from None
    return np.asarray(small, dtype=np.uint8).transpose(2, 0, 1)
