"""Files on any pyarrow file system: atomic writes, reads, listings. Local and object stores.

What fails for a moment is tried again here and nowhere else: every request of the store goes
through `Files`.
"""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs

from orchestrator.errors import ConfigError
from orchestrator.store.claims import in_turn
from orchestrator.store.retry import Retry
from orchestrator.store.uri import below, without_credentials

__all__ = ["Files", "below"]
Result = TypeVar("Result")
RETRY = Retry()
WHOLE_PUTS = "allow_delayed_open=true"
"""Lets pyarrow write a small S3 object by one request instead of three."""


class Files:
    """A root on a file system. Every write appears whole or not at all.

    On a local file system a file is renamed into place. On an object store it is one put, or a
    multipart upload whose last request makes it appear; what a killed process uploaded before that
    request is never seen (a lifecycle rule of the bucket should delete it).

    Every method but the constructor may raise StorageAwayError, when storage failed for longer
    than it is waited for or has no room (StorageFullError), and OSError for what waiting does not
    mend, such as missing rights.
    """

    def __init__(self, root: str | Path, retry: Retry = RETRY) -> None:
        """Open ``root``: a local folder or a URI that pyarrow understands (s3://, gs://, ...).

        Raises:
            ConfigError: The URI names no file system that pyarrow knows, or holds credentials.
        """
        text = str(root)
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        self.root = text
        try:
            self._fs, self._base = pafs.FileSystem.from_uri(_opened(without_credentials(text)))
        except ValueError as error:
            shown = text.partition("://")[0] + "://..." if str(error).startswith("holds") else text
            raise ConfigError(f"store: {shown!r} can't be opened: {error}") from None
        except OSError as error:
            raise ConfigError(f"store: {text!r} can't be opened: {error}") from error
        self.is_local = isinstance(self._fs, pafs.LocalFileSystem)
        self._retry = retry

    def path(self, name: str) -> str:
        """The full path of a file on the file system."""
        return f"{self._base}/{name}" if name else str(self._base)

    def local(self, name: str) -> Path | None:
        """The file's path on this machine, or None on an object store."""
        return Path(self.path(name)) if self.is_local else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: by renaming on a local file system, by one put elsewhere."""
        self._again("writing", name, lambda: self._write(name, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file only if there is none; False if there is, or another process was faster.

        Of many that try at once at most one succeeds: on a local file system and NFS because a hard
        link is made whole, on an object store because creators take turns (`claims`).
        """
        if self.is_local:
            return self._again("creating", name, lambda: self._link(name, content))

        def act() -> bool:
            if self.exists(name):
                return False
            self.write(name, content)
            return True

        return not self.exists(name) and in_turn(_Marks(self), name, act)

    def discard(self, name: str, content: bytes) -> bool:
        """Delete a file only if it still holds this content; False if it does not.

        Of many that try at once at most one succeeds.
        """
        if self.is_local:
            return self._again("deleting", name, lambda: self._move_away(name, content))

        def act() -> bool:
            if self.read_or_none(name) != content:
                return False
            self.delete(name)
            return True

        return in_turn(_Marks(self), name, act)

    def read(self, name: str) -> bytes:
        """The file's content.

        Raises:
            FileNotFoundError: There is no such file.
        """

        def act() -> bytes:
            with self._fs.open_input_file(self.path(name)) as source:
                content: bytes = source.readall()
                if len(content) != source.size():
                    raise ConnectionResetError(f"{name}: Incomplete read")
            return content

        return self._again("reading", name, act)

    def read_or_none(self, name: str) -> bytes | None:
        """The file's content, or None where there is no such file."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> Any:
        """A random-access file, as pyarrow's Parquet reader takes it."""
        return self._again("opening", name, lambda: self._fs.open_input_file(self.path(name)))

    def exists(self, name: str) -> bool:
        """Whether the file exists."""
        return bool(self._info(name).type != pafs.FileType.NotFound)

    def size(self, name: str) -> int:
        """The file's size in bytes."""
        return int(self._info(name).size)

    def names(self, name: str, *, recursive: bool = False) -> list[str]:
        """Names, relative to the root, of the files below a folder; sorted, none if absent."""
        names = self._listed(name, pafs.FileType.File, recursive=recursive)
        return [n for n in names if not n.rsplit("/", 1)[-1].startswith(".")]

    def hidden(self, prefix: str) -> list[str]:
        """Names, relative to the root, of files in one folder that begin so; sorted."""
        folder = prefix.rpartition("/")[0]
        return [n for n in self._listed(folder, pafs.FileType.File) if n.startswith(prefix)]

    def folders(self, name: str) -> list[str]:
        """Names, relative to the root, of the folders directly below a folder; sorted."""
        return self._listed(name, pafs.FileType.Directory)

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._again("deleting", name, lambda: self._fs.delete_file(self.path(name)))

    def delete_folder(self, name: str) -> None:
        """Delete a folder and everything in it; nothing happens if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._again("deleting", name, lambda: self._fs.delete_dir(self.path(name)))

    def _again(self, doing: str, name: str, act: Callable[[], Result]) -> Result:
        """The result of ``act``, tried again while storage fails in a way that may pass."""
        return self._retry.call(f"{doing} {name or 'the root'} of {self.root}", act)

    def _info(self, name: str) -> Any:
        path = self.path(name)
        return self._again("looking for", name, lambda: self._fs.get_file_info(path))

    def _listed(self, name: str, kind: Any, *, recursive: bool = False) -> list[str]:
        """Names, relative to the root, of the files or folders below a folder; sorted."""
        chosen = pafs.FileSelector(self.path(name), allow_not_found=True, recursive=recursive)
        infos = self._again("listing", name, lambda: self._fs.get_file_info(chosen))
        cut = len(self._base) + 1
        return sorted(info.path[cut:] for info in infos if info.type == kind)

    def _write(self, name: str, content: bytes) -> None:
        if self.is_local:
            aside = self._aside(name, content)
            try:
                os.replace(aside, self.path(name))
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
            return
        out = self._fs.open_output_stream(self.path(name))
        out.write(content)  # if it fails the upload is left open and so never appears
        out.close()

    def _link(self, name: str, content: bytes) -> bool:
        aside = self._aside(name, content)
        try:
            os.link(aside, self.path(name))  # fails if the target exists, on NFS as well
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        return True

    def _move_away(self, name: str, content: bytes) -> bool:
        """Of several that rename a file one succeeds; a file that holds something else is put back.

        Renaming comes first: what is read before it may be another process's by then.
        """
        target = Path(self.path(name))
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            os.rename(target, aside)
        except FileNotFoundError:
            return False
        found = aside.read_bytes()
        if found != content:
            self._link(name, found)
        aside.unlink(missing_ok=True)
        return found == content

    def _aside(self, name: str, content: bytes) -> Path:
        """A new local file beside ``name`` with this content, on disk."""
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            with aside.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return aside


class _Marks:
    """Claims as hidden files."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def put(self, name: str) -> None:
        self._files.write(name, b"claim")

    def seen(self, prefix: str) -> list[str]:
        return self._files.hidden(prefix)

    def remove(self, name: str) -> None:
        self._files.delete(name)


def _opened(uri: str) -> str:
    """The URI as pyarrow opens it."""
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{WHOLE_PUTS}"
