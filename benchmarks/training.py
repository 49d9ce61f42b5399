"""Training speed of our loop, against a bare loop with the same network, views and batches.

    python benchmarks/training.py --data data/fashion [--steps 200] [--threads 2] [--repeat 3]

Bare: images in memory, a fixed batch order, the same kornia views drawn for the batch, forward,
cross-entropy, backward, optimiser step; nothing else. Ours: `trainables.student.fit` on the same
rows through streams, target masses, the EMA teacher, checkpoints' clock and progress.
"""

from orchestrator.environment import prepare_environment

prepare_environment()

import argparse
import statistics
import time

import numpy as np
import torch

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.jobs.job import ImageForm
from trainables.augment import STRONG, View
from trainables.batches import BatchPlan, Source, TrainingSet
from trainables.models import build
from trainables.objective import LabelledTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn
from trainables.student import TrainingSpec, fit, start
from trainables.teachers import ExponentialAverage
from trainables.worker import Worker

BATCH = 128


def main() -> None:
    """Measure and print one line for each repetition, then the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/fashion")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = Dataset(args.data)
    form = ImageForm(size=data.manifest.size or 28, channels=data.manifest.channels)
    images = torch.from_numpy(decoded_fragment(data, data.manifest.pool.files[0], form).pixels)
    labels = torch.randint(data.num_classes, (len(images),))
    ratios = []
    for attempt in range(args.repeat):
        bare = bare_loop(images, labels, data.num_classes, form, args.steps)
        ours = our_loop(images, labels, data.num_classes, form, args.steps)
        ratios.append(ours / bare)
        print(f"{attempt}: bare {bare:,.0f} images/s; ours {ours:,.0f} ({ratios[-1]:.2f} of bare)")
    print(
        f"median {statistics.median(ratios):.2f} of bare over {args.repeat} runs of "
        f"{args.steps} steps of {BATCH}, {args.threads} threads; spread {np.ptp(ratios):.2f}"
    )


def bare_loop(
    images: torch.Tensor, labels: torch.Tensor, classes: int, form: ImageForm, steps: int
) -> float:
    """Images per second of the bare loop."""
    model = build(SmallCnn(), form.channels, form.size, classes)
    model = model.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    view = View(STRONG)
    began = time.perf_counter()
    for step in range(steps):
        at = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
        batch = view(images[at].float().div_(255), seed=step, rows=range(BATCH), of=BATCH)
        loss = torch.nn.functional.cross_entropy(
            model(batch.contiguous(memory_format=torch.channels_last)), labels[at]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return steps * BATCH / (time.perf_counter() - began)


def our_loop(
    images: torch.Tensor, labels: torch.Tensor, classes: int, form: ImageForm, steps: int
) -> float:
    """Images per second of our loop."""
    spec = TrainingSpec(
        batch=BatchPlan(labelled=BATCH, selected=0),
        objective=Objective(labelled=LabelledTerm(view="strong")),
        optimiser=OptimiserSpec(),
        teacher=ExponentialAverage(),
    )
    model = build(SmallCnn(), form.channels, form.size, classes)
    state = start(spec, model, classes, Worker())
    rows = TrainingSet(Source(images, np.arange(len(images)), labels))
    began = time.perf_counter()
    fit(spec, state, rows, steps, seed=0, worker=Worker(), listen=lambda *_: None)
    return steps * BATCH / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
