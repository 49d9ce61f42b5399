"""Files on any pyarrow file system: atomic writes, reads, listings. Local and object stores."""

import contextlib
import os
import uuid
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from orchestrator.errors import ConfigError


def below(root: str, name: str) -> str:
    """The root of a folder inside another root; a URI keeps its query."""
    base, mark, query = root.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


class Files:
    """A root on a file system. Every write appears whole or not at all."""

    def __init__(self, root: str | Path) -> None:
        """Open ``root``: a local folder or a URI that pyarrow understands (s3://, gs://, ...).

        Raises:
            ConfigError: The URI names no file system that pyarrow knows.
        """
        text = str(root)
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        self.root = text
        try:
            self._fs, self._base = pafs.FileSystem.from_uri(text)
        except (ValueError, OSError) as error:
            raise ConfigError(f"store: {text!r} can't be opened: {error}") from error
        self.is_local = isinstance(self._fs, pafs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The full path of a file on the file system."""
        return f"{self._base}/{name}" if name else str(self._base)

    def local(self, name: str) -> Path | None:
        """The file's path on this machine, or None on an object store."""
        return Path(self.path(name)) if self.is_local else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: by renaming on a local file system, by one put elsewhere."""
        if self.is_local:
            target = Path(self.path(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
            try:
                with aside.open("wb") as out:
                    out.write(content)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(aside, target)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
            return
        with self._fs.open_output_stream(self.path(name)) as out:
            out.write(content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file only if there is none; False if there is. Atomic on local file systems.

        On an object store the check and the put are two requests: two writers may both succeed,
        and the last one stays.
        """
        if not self.is_local:
            if self.exists(name):
                return False
            self.write(name, content)
            return True
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        aside.write_bytes(content)
        try:
            os.link(aside, target)  # fails if the target exists, on NFS as well
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        return True

    def move(self, name: str, to: str) -> bool:
        """Rename a file; False if another process was faster."""
        try:
            self._fs.move(self.path(name), self.path(to))
        except (FileNotFoundError, OSError):
            return False
        return True

    def read(self, name: str) -> bytes:
        """The file's content.

        Raises:
            FileNotFoundError: There is no such file.
        """
        with self._fs.open_input_file(self.path(name)) as source:
            content: bytes = source.readall()
        return content

    def open(self, name: str) -> Any:
        """A random-access file, as pyarrow's Parquet reader takes it."""
        return self._fs.open_input_file(self.path(name))

    def exists(self, name: str) -> bool:
        """Whether the file exists."""
        return bool(self._fs.get_file_info(self.path(name)).type != pafs.FileType.NotFound)

    def size(self, name: str) -> int:
        """The file's size in bytes."""
        return int(self._fs.get_file_info(self.path(name)).size)

    def names(self, name: str, *, recursive: bool = False) -> list[str]:
        """Names, relative to the root, of the files below a folder; sorted, none if absent."""
        chosen = pafs.FileSelector(self.path(name), allow_not_found=True, recursive=recursive)
        infos = self._fs.get_file_info(chosen)
        cut = len(self._base) + 1
        names = [info.path[cut:] for info in infos if info.type == pafs.FileType.File]
        return sorted(n for n in names if not n.rsplit("/", 1)[-1].startswith("."))

    def folders(self, name: str) -> list[str]:
        """Names, relative to the root, of the folders directly below a folder; sorted."""
        chosen = pafs.FileSelector(self.path(name), allow_not_found=True)
        infos = self._fs.get_file_info(chosen)
        cut = len(self._base) + 1
        return sorted(i.path[cut:] for i in infos if i.type == pafs.FileType.Directory)

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self.path(name))

    def delete_folder(self, name: str) -> None:
        """Delete a folder and everything in it; nothing happens if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(self.path(name))
