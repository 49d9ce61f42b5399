"""Decoded pool fragments, kept while there is room: a run reads each of them every round."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import Form, ImageForm
from orchestrator.store.record import FileEntry
from trainables.images import ImageError, decode, decode_padded

CACHE_BYTES = 1 << 30
WHOLE_SHARE = 0.7
"""Above this share of wanted rows a whole fragment is decoded and kept."""


@dataclass(frozen=True)
class Decoded:
    """The images of one fragment that could be decoded, and why the others could not."""

    example_ids: list[str]
    """Ids of the decoded rows [N]."""
    pixels: np.ndarray
    """Their images uint8 [N, C, H, W], or features float16 [N, D, 1, 1]."""
    refused: dict[str, str]
    """Reasons by id of the rows that are no usable image."""
    frames: np.ndarray | None = None
    """Where the stored images lie in padded ones: (scale, left, top), float32 [N, 3]."""

    def frames_of(self) -> np.ndarray:
        """Where the stored images lie, float32 [N, 3].

        Raises:
            ValueError: Images were cropped, not padded.
        """
        if self.frames is None:
            raise ValueError("these images were cropped: points can't be placed in them")
        return self.frames


class _Cache:
    """Fragments up to a number of bytes; the first ones stay."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._held: dict[tuple[str, str], Decoded] = {}
        self._lock = Lock()

    def get(self, key: tuple[str, str]) -> Decoded | None:
        with self._lock:
            return self._held.get(key)

    def put(self, key: tuple[str, str], value: Decoded) -> None:
        with self._lock:
            if key in self._held:
                return
            if self._bytes + value.pixels.nbytes > self._most:
                return  # the pool is read in a cycle: evicting would leave nothing to find
            self._held[key] = value
            self._bytes += value.pixels.nbytes


_CACHE = _Cache(CACHE_BYTES)


def decoded_fragment(data: Dataset, entry: FileEntry, form: Form) -> Decoded:
    """One fragment of the pool, decoded to the given form."""
    key = (entry.sha256, form.model_dump_json())
    if (found := _CACHE.get(key)) is not None:
        return found
    decoded = decode_rows(data.read(entry, ["example_id", form.column]), form)
    _CACHE.put(key, decoded)
    return decoded


def decoded_part(
    data: Dataset, entry: FileEntry, form: Form, take: Callable[[list[str]], np.ndarray]
) -> Decoded:
    """The rows of a fragment whose ids ``take`` marks (bool [N]), decoded to the given form.

    A fragment of which little is taken is decoded for those rows only and not kept.
    """
    key = (entry.sha256, form.model_dump_json())
    if (whole := _CACHE.get(key)) is None:
        table = data.read(entry, ["example_id", form.column])
        mask = take(table["example_id"].to_pylist())
        if mask.mean() <= WHOLE_SHARE:
            return decode_rows(table.filter(pa.array(mask)), form)
        whole = decoded_fragment(data, entry, form)
    mask = take(whole.example_ids)
    ids = [name for name, yes in zip(whole.example_ids, mask.tolist(), strict=True) if yes]
    frames = None if whole.frames is None else whole.frames[mask]
    return Decoded(ids, whole.pixels[mask], whole.refused, frames)


def decode_rows(table: pa.Table, form: Form) -> Decoded:
    """The table's images or features in the given form; unusable ones are refused with the reason.

    The table holds ``example_id`` and the form's column.
    """
    ids, column = table["example_id"].to_pylist(), table[form.column]
    if isinstance(form, ImageForm):
        return _images(ids, column.to_pylist(), form)
    rows = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows = rows.reshape(len(ids), form.width, 1, 1)
    usable = np.isfinite(rows).all(axis=(1, 2, 3))
    refused = {ids[at]: "features that are not finite" for at in np.flatnonzero(~usable).tolist()}
    return Decoded([name for name in ids if name not in refused], rows[usable], refused)


def _images(ids: list[str], contents: list[bytes], form: ImageForm) -> Decoded:
    good: list[str] = []
    refused: dict[str, str] = {}
    pixels = np.empty((len(ids), form.channels, form.size, form.size), np.uint8)
    frames = np.empty((len(ids), 3), np.float32) if form.fit == "pad" else None
    for name, content in zip(ids, contents, strict=True):
        try:
            if frames is None:
                pixels[len(good)] = decode(content, form.size, form.channels)
            else:
                pixels[len(good)], frames[len(good)] = decode_padded(
                    content, form.size, form.channels
                )
        except ImageError as error:
            refused[name] = str(error)
        else:
            good.append(name)
    frames = None if frames is None else frames[: len(good)]
    return Decoded(good, pixels[: len(good)], refused, frames)
