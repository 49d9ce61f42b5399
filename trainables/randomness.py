"""One integer seed in, named independent streams out; no global generator is ever touched."""

import hashlib

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and the names, and on nothing else."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """An independent NumPy generator for the named use of ``seed``."""
    return np.random.default_rng(derive(seed, *names))


def torch_stream(seed: int, *names: str | int) -> torch.Generator:
    """An independent CPU torch generator for the named use of ``seed``."""
    return torch.Generator().manual_seed(derive(seed, *names))


def seed_device(seed: int, device: torch.device) -> None:
    """Seed the generators that layers on this device draw from.

    On the CPU that of the CPU alone: `torch.manual_seed` tells every kind of device there may be,
    which takes as long as some layers.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def id_hash(seed: int, example_ids: list[str]) -> np.ndarray:
    """Seeded 32-bit hashes of ids, uint32 ``[N]``: ties are broken by them, never by position."""
    key = seed.to_bytes(16, "big", signed=True)
    digests = [hashlib.blake2b(i.encode(), digest_size=4, key=key).digest() for i in example_ids]
    return np.frombuffer(b"".join(digests), dtype=">u4").astype(np.uint32)
