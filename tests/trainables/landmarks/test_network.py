"""Landmark networks: the size of their maps, any backbone, and faults that are told."""

import pytest
import torch
from safetensors.torch import save_file

from trainables.landmarks.network import (
    LandmarkNetworkSpec,
    Maps,
    Pyramid,
    TimmBackbone,
    build_landmark_network,
    cut,
    maps_of,
)
from trainables.models import has_batch_norm

SMALL = LandmarkNetworkSpec(backbone=Pyramid(width=8, norm="group"), width=16)
RESNET = LandmarkNetworkSpec(backbone=TimmBackbone(name="resnet18"), width=16)


def built(spec: LandmarkNetworkSpec, channels: int = 1, points: int = 3, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_landmark_network(spec, channels, points).eval()


def images(rows: int = 2, channels: int = 1, side: tuple[int, int] = (32, 48)) -> torch.Tensor:
    return torch.rand(rows, channels, *side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", [SMALL, RESNET], ids=["pyramid", "resnet18"])
@pytest.mark.parametrize("stride", [2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_have_a_cell_for_each_stride_of_pixels(spec, stride, channels):
    network = built(spec.model_copy(update={"stride": stride}), channels)
    maps = maps_of(network, images(channels=channels))
    cells = (32 // stride, 48 // stride)
    assert maps.heat.shape == (2, 3, *cells)
    assert maps.centre.shape == (2, 1, *cells)
    assert maps.offsets.shape == (2, 6, *cells)
    assert network.stride == stride


@pytest.mark.parametrize("spec", [SMALL, RESNET], ids=["pyramid", "resnet18"])
def test_a_row_is_told_the_same_alone_and_in_a_batch(spec):
    network, batch = built(spec), images(4)
    together = maps_of(network, batch)
    for row in range(4):
        for one, all_ in zip(maps_of(network, batch[row : row + 1]), together, strict=True):
            assert torch.allclose(one[0], all_[row], atol=1e-4)


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    one, again, other = (built(SMALL, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_new_network_expects_few_centres():
    assert maps_of(built(SMALL), images()).centre.sigmoid().mean() < 0.1


def test_maps_are_float32_whatever_the_arithmetic():
    with torch.autocast("cpu", torch.bfloat16):
        maps = maps_of(built(SMALL), images())
    assert {values.dtype for values in maps} == {torch.float32}


def test_gradients_reach_every_weight():
    network = built(SMALL).train()
    sum(values.square().mean() for values in maps_of(network, images())).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_norm_is_the_one_that_was_asked_for(norm):
    spec = SMALL.model_copy(update={"backbone": Pyramid(width=8, norm=norm)})
    assert has_batch_norm(built(spec)) == (norm == "batch")


def test_parts_of_a_batch_are_cut_in_order():
    whole = Maps(*(torch.arange(6.0)[:, None].repeat(1, n) for n in (3, 1, 6)))
    first, second, third = cut(whole, (1, 2, 3))
    assert first.heat[:, 0].tolist() == [0]
    assert second.centre[:, 0].tolist() == [1, 2]
    assert third.offsets[:, 5].tolist() == [3, 4, 5]


def test_a_network_begins_with_the_weights_of_a_file(tmp_path):
    before = built(SMALL, seed=3)
    save_file(before.state_dict(), tmp_path / "weights.safetensors")
    spec = SMALL.model_copy(update={"checkpoint": tmp_path / "weights.safetensors"})
    after = built(spec, seed=4).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.state_dict().items())


def test_weights_of_other_points_are_refused(tmp_path):
    save_file(built(SMALL, points=4).state_dict(), tmp_path / "weights.safetensors")
    spec = SMALL.model_copy(update={"checkpoint": tmp_path / "weights.safetensors"})
    with pytest.raises(RuntimeError, match="size mismatch"):
        built(spec)


def test_a_stride_that_the_backbone_has_not_is_refused_with_those_that_it_has():
    spec = LandmarkNetworkSpec(backbone=TimmBackbone(name="convnext_atto"), stride=2)
    with pytest.raises(ValueError, match=r"stride is 2, but the backbone has maps of 4, 8, 16, 32"):
        built(spec, channels=3)


def test_a_backbone_that_is_nowhere_is_refused():
    with pytest.raises(ValueError, match="no_such_net"):
        built(LandmarkNetworkSpec(backbone=TimmBackbone(name="no_such_net")))
