"""The copy of the working folder that a Ray cluster gets: what is in it, how large it is."""

import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from orchestrator.errors import ConfigError, InfeasibleError

ALWAYS_OUT = (
    "/data", "/store", "/runs", "/build", "/dist", "/wandb",
    ".git", ".venv", "venv", "node_modules", "*.egg-info",
    "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
    ".env", ".netrc", "*.pem", "*.key",
)  # fmt: skip
"""Never copied: outputs, environments, caches, and files that usually hold secrets."""
MOST_BYTES = 100 * 2**20
"""Ray takes up to 512 MiB, but holds the copy in the head's memory."""
MOST_FILES = 20_000
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """Files below a root, to be copied."""

    root: Path
    files: tuple[tuple[str, int], ...]
    """Relative path and size in bytes, by path."""

    @property
    def num_bytes(self) -> int:
        """Size of all files, not compressed."""
        return sum(size for _, size in self.files)

    def largest(self, count: int = 10) -> list[tuple[str, int]]:
        """The largest files, the largest first."""
        return sorted(self.files, key=lambda entry: (-entry[1], entry[0]))[:count]

    def lines(self) -> list[str]:
        """The package in words: its size and its largest files."""
        total = f"{len(self.files):,} files, {self.num_bytes:,} bytes of {self.root}"
        return [total, *(f"{size:>14,}  {name}" for name, size in self.largest())]

    def check(self) -> None:
        """Refuse a package that is too large.

        Raises:
            InfeasibleError: Lists the largest files.
        """
        if self.num_bytes <= MOST_BYTES and len(self.files) <= MOST_FILES:
            return
        listed = "\n  ".join(self.lines())
        raise InfeasibleError(
            f"the copy of the working folder may have {MOST_BYTES:,} bytes and {MOST_FILES:,} "
            f"files; name what isn't needed in launch.exclude. It has:\n  {listed}"
        )

    def write(self, target: Path) -> None:
        """Write it as a zip whose bytes depend on names and contents alone."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
            for name, _ in self.files:
                path = self.root / name
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (path.stat().st_mode & 0o777) << 16
                out.writestr(entry, path.read_bytes())


def package_of(root: Path, exclude: Sequence[str], needed: str) -> Package:
    """What of the folder is copied; in a git checkout, what git doesn't ignore.

    Raises:
        ConfigError: There is no such folder, or what is needed isn't among the files.
    """
    if not root.is_dir():
        raise ConfigError(f"launch.working_dir: {root} is no folder")
    patterns = (*ALWAYS_OUT, *exclude)
    names = _known_to_git(root) if (root / ".git").exists() else _walk(root, patterns)
    kept = sorted(n for n in names if not left_out(n, patterns) and (root / n).is_file())
    if needed not in kept:
        raise ConfigError(
            f"{needed} isn't among the files that are copied from {root}: it is ignored by git or "
            "by launch.exclude, or lies in a folder that is always left out"
        )
    return Package(root, tuple((name, (root / name).stat().st_size) for name in kept))


def left_out(name: str, patterns: Sequence[str]) -> bool:
    """Whether a glob meets the path, a folder above it, or one of its parts.

    A glob that begins with a slash is meant from the root on, as git has it.
    """
    parts = name.split("/")
    heads = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    for pattern in patterns:
        texts = heads if pattern.startswith("/") else [*heads, *parts]
        if any(fnmatch(text, pattern.strip("/")) for text in texts):
            return True
    return False


def _known_to_git(root: Path) -> list[str]:
    listing = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    found = subprocess.run(listing, capture_output=True, text=True, check=False)
    if found.returncode:
        raise ConfigError(f"launch.working_dir: git can't list {root}: {found.stderr.strip()}")
    return [name for name in found.stdout.split("\0") if name]


def _walk(root: Path, patterns: Sequence[str], below: str = "") -> list[str]:
    names: list[str] = []
    for path in sorted((root / below).iterdir()):
        name = f"{below}{path.name}"
        if left_out(name, patterns):
            continue
        if path.is_dir() and not path.is_symlink():
            names += _walk(root, patterns, f"{name}/")
        else:
            names.append(name)
    return names
