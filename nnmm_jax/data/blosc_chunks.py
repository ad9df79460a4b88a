"""Chunks that blosc compressed, checked before the library decodes them.

Blosc has no checksum, and takes the sizes that a chunk begins with for granted: one that is cut is
decoded to other numbers, one with wrong sizes can end the process.
"""

import json
import struct
from pathlib import Path

import numpy as np

from nnmm_jax.errors import InputError

# Version of the format, of the inner codec, flags, item size; bytes decoded, of a block, encoded.
HEADER = struct.Struct("<BBBBIII")

FORMAT_VERSION = 2


def check_blosc_chunks(store: Path, source: str) -> None:
    """Raise if a chunk of a zarr store (format 2) has not the sizes that it says.

    Parameters
    ----------
    store
        Folder of the store; its metadata are readable JSON.
    source
        What it is, for messages.

    Raises
    ------
    InputError
        A chunk is cut, too long, or of another size than its array says.

    References
    ----------
    https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst

    Examples
    --------
    >>> check_blosc_chunks(Path("genotypes.zarr"), "genotypes")  # nothing there, nothing wrong
    """
    for file in sorted(store.rglob(".zarray")):
        metadata = json.loads(file.read_text(encoding="utf-8"))
        if (metadata.get("compressor") or {}).get("id") != "blosc":
            continue
        fixed = metadata.get("dtype") != "|O" and not metadata.get("filters")
        decoded = np.dtype(metadata["dtype"]).itemsize * int(np.prod(metadata["chunks"]))
        for chunk in sorted(file.parent.rglob("[0-9]*")):
            if chunk.is_file() and not _is_whole(chunk, decoded if fixed else None):
                raise InputError(
                    f"{source}: expected chunks of the sizes that they say, found another in "
                    f"{chunk.relative_to(store)}; the store is damaged, copy or make it anew"
                )


def _is_whole(chunk: Path, decoded: int | None) -> bool:
    """Whether a chunk has the size that it begins with, and decodes to that of the array."""
    size = chunk.stat().st_size
    with chunk.open("rb") as handle:
        head = handle.read(HEADER.size)
    if len(head) < HEADER.size:
        return False
    version, _, _, item, to_decode, block, encoded = HEADER.unpack(head)
    return (
        version == FORMAT_VERSION
        and item > 0
        and encoded == size
        and 0 < block <= max(to_decode, 1)
        and (decoded is None or to_decode == decoded)
    )
