"""Frames of a video as unlabelled rows: one clip, in order."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from orchestrator.data.examples import Found, RawExample
from orchestrator.errors import ConfigError, DataError
from trainables.images import encode

SUFFIXES = {".mp4", ".avi", ".mov", ".mkv"}
FORMATS = "mov,mp4,avi,matroska,webm"
"""What is read as video; playlists, which may point anywhere, are not."""


def video(file: Path) -> Found:
    """Every frame of a video file as PNG; frames whose channels are all equal are grey.

    Raises:
        ConfigError: PyAV is not installed.
    """
    return Found(file.name, _frames(file, _pyav(file)))


def _pyav(file: Path) -> ModuleType:
    try:
        import av  # here: the rest works without it
    except ImportError as error:
        raise ConfigError(
            f"{file.name} is a video, and PyAV is missing: pip install 'selftrain[video]'"
        ) from error
    return av  # type: ignore[no-any-return]  # a module whose types are not read


def _frames(file: Path, av: ModuleType) -> Iterator[RawExample]:
    """Frames in order.

    Raises:
        DataError: The file is no video, broken, or holds no frames.
    """
    number = -1
    try:
        with (
            file.open("rb") as opened,
            av.open(
                opened, metadata_errors="ignore", options={"format_whitelist": FORMATS}
            ) as container,
        ):
            frames = container.decode(video=0) if container.streams.video else ()
            for number, frame in enumerate(frames):
                name = f"{file.stem}-frame{number:06d}"
                content = encode(_plain(frame.to_ndarray(format="rgb24")))
                origin = f"{file.name} frame {number}"
                yield RawExample(
                    name, origin, content, None, "unlabelled", group=file.stem, order=number
                )
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{file} can't be read as video after frame {number}: {error}") from error
    if number < 0:
        raise DataError(f"{file} holds no frames of video")


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Pixels uint8 [H, W, 3], or [H, W] where all three channels are equal."""
    grey = (pixels == pixels[..., :1]).all()
    return pixels[..., 0] if grey else pixels
