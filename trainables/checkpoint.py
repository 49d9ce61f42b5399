"""Weights and training state in safetensors: never pickle."""

import json
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from trainables.state import TrainState
from trainables.teachers import Snapshots

AnyValue = TypeVar("AnyValue")


def weights_to_bytes(model: nn.Module) -> bytes:
    """The model's parameters and buffers; the same weights give the same bytes."""
    return bytes(save({k: v.detach().cpu().contiguous() for k, v in _state(model).items()}))


def weights_from_bytes(content: bytes, model: nn.Module) -> None:
    """Load parameters and buffers into a model of the same architecture.

    Raises:
        RuntimeError: The names or shapes differ.
    """
    model.load_state_dict(load(content), strict=True)


def state_to_bytes(state: TrainState) -> bytes:
    """A whole training state: networks, heads, optimisers, running statistics, kept rows, step."""
    tensors = {f"running.{k}": torch.from_numpy(v) for k, v in state.running.arrays().items()}
    tensors |= {f"student.{k}": v for k, v in _state(state.student).items()}
    if state.teacher is not state.student:
        tensors |= {f"teacher.{k}": v for k, v in _state(state.teacher).items()}
    for at, weights in enumerate(state.snapshots.kept):
        tensors |= {f"snapshot.{at}.{k}": v for k, v in weights.items()}
    tensors |= {f"snapshot_total.{k}": v for k, v in state.snapshots.total.items()}
    if (beside := state.beside) is not None:
        tensors |= {f"heads.{k}": v for k, v in _state(beside.heads).items()}
        tensors |= {f"teacher_heads.{k}": v for k, v in _state(beside.teacher_heads).items()}
        kept = beside.kept.arrays() if beside.kept is not None else {}
        tensors |= {f"kept.{k}": torch.from_numpy(v) for k, v in kept.items()}
    numbers: dict[str, float] = {}
    _put_optimiser(tensors, numbers, "optimiser", state.optimiser)
    if (partner := state.partner) is not None:
        tensors |= {f"partner.{k}": v for k, v in _state(partner.network).items()}
        tensors |= {
            f"partner_running.{k}": torch.from_numpy(v) for k, v in partner.running.arrays().items()
        }
        _put_optimiser(tensors, numbers, "partner_optimiser", partner.optimiser)
        numbers["partner_baseline"] = partner.baseline
    numbers["snapshots"] = len(state.snapshots.kept)
    meta = {"step": str(state.step), "numbers": json.dumps(numbers)}
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return bytes(save(plain, metadata=meta))


def state_from_bytes(content: bytes, state: TrainState) -> None:
    """Restore a training state in place."""
    meta = _metadata(content)
    tensors = load(content)
    state.step = int(meta["step"])
    state.running.restore({k: v.numpy() for k, v in _below(tensors, "running.").items()})
    state.student.load_state_dict(_below(tensors, "student."), strict=True)
    if state.teacher is not state.student:
        state.teacher.load_state_dict(_below(tensors, "teacher."), strict=True)
    if (beside := state.beside) is not None:
        beside.heads.load_state_dict(_below(tensors, "heads."), strict=True)
        beside.teacher_heads.load_state_dict(_below(tensors, "teacher_heads."), strict=True)
        if beside.kept is not None:
            beside.kept.restore({k: v.numpy() for k, v in _below(tensors, "kept.").items()})
    numbers = json.loads(meta["numbers"])
    device = next(state.student.parameters()).device
    state.snapshots = Snapshots(
        [_placed(tensors, f"snapshot.{at}.", device) for at in range(numbers["snapshots"])],
        _placed(tensors, "snapshot_total.", device),
    )
    _take_optimiser(tensors, numbers, "optimiser", state.optimiser)
    if (partner := state.partner) is not None:
        partner.network.load_state_dict(_below(tensors, "partner."), strict=True)
        kept = _below(tensors, "partner_running.")
        partner.running.restore({k: v.numpy() for k, v in kept.items()})
        _take_optimiser(tensors, numbers, "partner_optimiser", partner.optimiser)
        partner.baseline = float(numbers["partner_baseline"])


def _put_optimiser(
    tensors: dict[str, Tensor],
    numbers: dict[str, float],
    prefix: str,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Add an optimiser's state to what is saved."""
    for at, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}.{at}.{name}"] = value
            elif value is not None:
                numbers[f"{prefix}.{at}.{name}"] = float(value)


def _take_optimiser(
    tensors: dict[str, Tensor],
    numbers: dict[str, float],
    prefix: str,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Restore an optimiser's state in place."""
    states: dict[int, dict[str, Any]] = {}
    for name, value in [
        *_below(tensors, f"{prefix}.").items(),
        *_below(numbers, f"{prefix}.").items(),
    ]:
        at, _, field = name.partition(".")
        states.setdefault(int(at), {})[field] = value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({**whole, "state": states})


def _state(model: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = model.state_dict()
    return found


def _below(values: dict[str, AnyValue], prefix: str) -> dict[str, AnyValue]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _placed(tensors: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in _below(tensors, prefix).items()}


def _metadata(content: bytes) -> dict[str, str]:
    """The text fields of a safetensors header: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return found
