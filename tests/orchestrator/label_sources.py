"""Settings that give labels several sources, and what a run's tables say."""

import json

import timm
import torch
from safetensors.torch import save_file

from orchestrator.store.store import Store
from tests.orchestrator.helpers import table_of
from trainables.beliefs import Beliefs

SHORT = ("recipe.training.steps={first_round: 8, base: 6}", "recipe.selector={kind: everything}")
SOURCES = """
import torch
def told(images):
    weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    return images.flatten(1) @ weights
def seven(images):
    return told(images)[:, :7]
def odd(images):  # about a seventh of them
    return (images * 255).round().flatten(1).sum(1, keepdim=True).long() % 7 == 0
def part(images):
    return torch.where(odd(images), torch.nan, told(images))
def rest(images):
    return torch.where(odd(images), told(images), torch.nan)
def nothing(images):
    return told(images) * float("nan")
"""
STUDENTS = (
    "recipe.labelling={students: 3, combine: {kind: label_model}, remember: 0.3}",
    "recipe.filters=[{kind: agreement}]",
    "recipe.training.teacher={kind: student}",  # both, so that they agree about some rows
    "recipe.training.steps={first_round: 30, base: 20}",
)
PASSES = ("recipe.labelling.passes=4", "recipe.student.dropout=0.3")


def foreign(name: str = "told", rounds: str = "first") -> str:
    source = {"kind": "callable", "target": f"my_labels:{name}", "rounds": rounds}
    return f"recipe.labelling.foreign=[{json.dumps(source)}]"


def written(path, seed: int) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), path)
    return str(path)


def checkpoint(path: str, rounds: str = "all") -> str:
    source = {"kind": "timm", "model": "test_resnet", "checkpoint": path, "num_outputs": 10}
    return f"recipe.labelling.foreign=[{json.dumps(source | {'rounds': rounds})}]"


def believed(config, record, round_: int, step: str) -> Beliefs:
    found = table_of(config.store, "label", record.rounds[round_].steps[step].address)
    return Beliefs.of_table(found)


def chosen(config, record, round_: int, step: str = "select") -> list[str]:
    address = record.rounds[round_].steps[step].address
    return table_of(config.store, "select", address)["example_id"].to_pylist()


def trained(config, record, round_: int, step: str = "train"):
    return Store(config.store).record("train", record.rounds[round_].steps[step].address)


EARLIER = (
    "recipe.labelling={checkpoints: [0.34, 0.67], combine: {kind: first}}",
    "recipe.ranking=agreement",
    "recipe.selector={kind: top_share, share: 0.5}",
    "recipe.training.steps={first_round: 30, base: 20}",
    "recipe.training.teacher.decay=0.5",
)
VIEWS = "recipe.labelling.views=3"
