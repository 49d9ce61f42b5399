"""Training and labelling speed of our loop, against a bare loop with the same network and batches.

    python benchmarks/training.py --data data/fashion [--steps 200] [--threads 2] [--repeat 3]
    python benchmarks/training.py --data noise --device cuda --precision bfloat16 --batch 512
                                  --student "{kind: wide_resnet}"

Bare: images in memory (on a GPU: in its own), a fixed batch order, the same kornia views drawn for
the batch, forward, cross-entropy, backward, optimiser step; nothing else. `plain` leaves the views
out as well. Ours: `trainables.student.fit` on the same rows through streams, target masses, the EMA
teacher, checkpoints' clock and progress. Labelling: forward passes alone, and what the label step
does with decoded images. Data `noise` are random images of 32x32, for speed alone.
"""

from orchestrator.environment import prepare_environment

prepare_environment()

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor, nn

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.decoded import Decoded, decoded_fragment
from orchestrator.jobs.job import ImageForm
from orchestrator.jobs.predicting import predict
from orchestrator.recipe import LabellingSpec
from trainables.augment import STRONG, View
from trainables.batches import BatchPlan, Source, TrainingSet, as_floats
from trainables.models import AnyModel, ModelSpec, build
from trainables.objective import LabelledTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.student import TrainingSpec, fit, start
from trainables.teachers import ExponentialAverage
from trainables.update import Precision, autocast
from trainables.worker import Worker

NOISE_ROWS = 8192


@dataclass(frozen=True)
class Setting:
    """What all loops share."""

    student: AnyModel
    images: Tensor
    """Uint8 [N, C, H, W], on the CPU."""
    labels: Tensor
    """Classes int64 [N]."""
    classes: int
    batch: int
    steps: int
    device: torch.device
    precision: Precision

    def model(self) -> nn.Module:
        """The student with new weights, on the device."""
        torch.manual_seed(0)
        model = build(self.student, self.images.shape[1], self.images.shape[2], self.classes)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def rows(self, step: int) -> Tensor:
        """Places of the batch of a step."""
        return torch.arange(step * self.batch, (step + 1) * self.batch) % len(self.images)

    def settled(self) -> float:
        """The clock, once a GPU has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def main() -> None:
    """Measure and print one line for each repetition, then the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/fashion")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="float32")
    parser.add_argument("--student", default="{kind: small_cnn}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images, classes = images_of(args.data)
    student: AnyModel = TypeAdapter(ModelSpec).validate_python(yaml.safe_load(args.student))
    labels, device = torch.randint(classes, (len(images),)), torch.device(args.device)
    setting = Setting(
        student, images, labels, classes, args.batch, args.steps, device, args.precision
    )
    if device.type == "cuda":  # kernels are chosen and loaded at the first steps
        our_loop(setting)
    ratios = []
    for attempt in range(args.repeat):
        plain, bare = bare_loop(setting, view=None), bare_loop(setting, view=View(STRONG))
        ours = our_loop(setting)
        ratios.append(ours / bare)
        print(
            f"{attempt}: plain {plain:,.0f} images/s, bare {bare:,.0f}; "
            f"ours {ours:,.0f} ({ratios[-1]:.2f} of bare)",
            flush=True,
        )
    forward, labelled = labelling(setting)
    print(f"labelling: forward passes {forward:,.0f} images/s, ours {labelled:,.0f}")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    print(
        f"median {statistics.median(ratios):.2f} of bare over {args.repeat} runs of {args.steps} "
        f"steps of {args.batch}, {args.threads} threads, {args.student} on {args.device}; "
        f"spread {np.ptp(ratios):.2f}"
    )


def images_of(data: str) -> tuple[Tensor, int]:
    """Images uint8 [N, C, H, W] of the first fragment of a pool, or noise; how many classes."""
    if data == "noise":
        stream = np.random.default_rng(0)
        noise = stream.integers(0, 256, (NOISE_ROWS, 3, 32, 32), dtype=np.uint8)
        return torch.from_numpy(noise), 10
    prepared = Dataset(data)
    form = ImageForm(size=prepared.manifest.size or 28, channels=prepared.manifest.channels)
    decoded = decoded_fragment(prepared, prepared.manifest.pool.files[0], form)
    return torch.from_numpy(decoded.pixels), prepared.num_classes


def bare_loop(setting: Setting, view: View | None) -> float:
    """Images per second of the bare loop."""
    model = setting.model().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    images, labels = setting.images.to(setting.device), setting.labels.to(setting.device)
    began = setting.settled()
    for step in range(setting.steps):
        at = setting.rows(step).to(setting.device)
        batch = images[at].float().div_(255)
        if view is not None:
            batch = view(batch, seed=step, rows=range(len(at)), of=len(at))
        with autocast(setting.precision, setting.device):
            logits = model(batch.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(logits.float(), labels[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return setting.steps * setting.batch / (setting.settled() - began)


def our_loop(setting: Setting) -> float:
    """Images per second of our loop."""
    spec = TrainingSpec(
        batch=BatchPlan(labelled=setting.batch, selected=0),
        objective=Objective(labelled=LabelledTerm(view="strong")),
        optimiser=OptimiserSpec(),
        teacher=ExponentialAverage(),
        precision=setting.precision,
    )
    worker = Worker(device=setting.device)
    state = start(spec, setting.model(), setting.classes, worker)
    rows = TrainingSet(Source(setting.images, np.arange(len(setting.images)), setting.labels))
    began = setting.settled()
    fit(spec, state, rows, setting.steps, seed=0, worker=worker, listen=lambda *_: None)
    return setting.steps * setting.batch / (setting.settled() - began)


def labelling(setting: Setting) -> tuple[float, float]:
    """Images per second of forward passes alone, and of what the label step does."""
    model, images = setting.model().eval(), setting.images.to(setting.device)
    total = len(images)
    for _ in range(2):  # the first time warms up
        began = setting.settled()
        with torch.inference_mode(), autocast(setting.precision, setting.device):
            for at in range(0, total, 512):
                batch = as_floats(images[at : at + 512])
                model(batch.contiguous(memory_format=torch.channels_last))
        forward_s = setting.settled() - began
    decoded = Decoded([str(i) for i in range(total)], setting.images.numpy(), {})
    spec = LabellingSpec(precision=setting.precision)
    began = setting.settled()
    predict(model, decoded, spec, 512, setting.device, setting.classes)
    return total / forward_s, total / (setting.settled() - began)


if __name__ == "__main__":
    main()
