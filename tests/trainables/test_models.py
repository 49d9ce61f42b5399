from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trainables.models import TimmModel, build, classifier_of, logits_and_features, num_parameters
from trainables.own_networks import Mlp, SmallCnn, WideResnet


def seeded(spec, channels=1, size=28, num_classes=10, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec, channels, size, num_classes)


CASES = [
    (SmallCnn(), 1, 28, 10),
    (SmallCnn(width=8, norm="group", dropout=0.5), 3, 32, 4),
    (SmallCnn(width=8), 1, 8, 2),
    (WideResnet(depth=10, width=1), 3, 32, 10),
    (WideResnet(depth=16, width=1, dropout=0.5), 1, 28, 4),
    (Mlp(), 12, 1, 3),
    (Mlp(hidden=16, dropout=0.5), 2, 4, 3),
    (TimmModel(name="resnet18"), 1, 28, 10),
    (TimmModel(name="resnet18", drop_rate=0.1, drop_path_rate=0.1), 3, 32, 5),
    (TimmModel(name="vit_tiny_patch16_224"), 3, 32, 7),
    (TimmModel(name="vit_tiny_patch16_224", input_size=48), 3, 32, 7),
    (TimmModel(name="test_efficientnet", input_size=64, normalise=True), 1, 28, 3),
    (TimmModel(name="vit_tiny_patch16_224", drop_path_rate=0.1), 1, 48, 2),
]


@pytest.mark.parametrize(("spec", "channels", "size", "num_classes"), CASES)
def test_a_network_maps_images_to_finite_logits_and_every_weight_learns(
    spec, channels, size, num_classes
):
    model = seeded(spec, channels, size, num_classes)
    logits = model(torch.rand(3, channels, size, size))
    assert logits.shape == (3, num_classes)
    assert torch.isfinite(logits).all()
    logits.logsumexp(1).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("spec", "channels", "size", "num_classes"), CASES)
def test_features_are_what_the_classifier_reads(spec, channels, size, num_classes):
    model = seeded(spec, channels, size, num_classes).eval()
    images = torch.rand(3, channels, size, size)
    logits, features = logits_and_features(model, images)
    assert torch.equal(logits, model(images))
    assert features.shape == (3, classifier_of(model).in_features)


def test_logits_of_rows_that_stand_apart_move_the_classifier_alone():
    model = seeded(SmallCnn(width=8, norm="group"))
    logits, _ = logits_and_features(model, torch.rand(2, 1, 28, 28), torch.tensor([True, False]))
    logits[0].sum().backward(retain_graph=True)
    assert all((p.grad == 0).all() for p in model.features.parameters())
    assert (model.classifier.weight.grad != 0).any()
    logits[1].sum().backward()
    assert all((p.grad != 0).any() for p in model.features.parameters())


def test_a_network_without_a_linear_classifier_has_no_features_to_read():
    model = seeded(TimmModel(name="resnet18"))
    model.fc = torch.nn.Sequential(model.fc)
    with pytest.raises(ValueError, match="has no linear classifier behind its features"):
        classifier_of(model)


@pytest.mark.parametrize("spec", [SmallCnn(width=8), TimmModel(name="vit_tiny_patch16_224")])
def test_the_seed_around_the_call_decides_the_initial_weights(spec):
    first, again, other = (seeded(spec, size=32, seed=s) for s in (0, 0, 1))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not all(
        torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )


def test_the_small_cnn_has_as_many_parameters_as_it_says():
    assert num_parameters(seeded(SmallCnn())) == 94_186


def test_frozen_numbers_are_not_counted():
    model = seeded(SmallCnn(width=8))
    before = num_parameters(model)
    model.classifier.requires_grad_(requires_grad=False)
    assert before - num_parameters(model) == 32 * 10 + 10


def test_group_normalisation_keeps_an_image_independent_of_its_batch():
    model = seeded(SmallCnn(width=8, norm="group")).train()
    images = torch.rand(6, 1, 28, 28)
    assert torch.allclose(model(images)[:2], model(images[:2]), atol=1e-6)


def test_dropout_acts_in_training_only():
    model = seeded(SmallCnn(width=8, norm="group", dropout=0.5))
    images = torch.rand(4, 1, 28, 28)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet81", "resnet18"), ("vit_tinny_patch16_224", "vit_tiny_patch16_224")],
)
def test_an_unknown_name_is_refused_with_near_names(name, near):
    with pytest.raises(ValueError, match=rf"knows no model '{name}'.*Did you mean .*{near}"):
        seeded(TimmModel(name=name))


def test_a_name_like_no_other_is_refused_without_a_guess():
    with pytest.raises(ValueError, match=r"knows no model '@@@@'\.$"):
        seeded(TimmModel(name="@@@@"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_local_file_gives_all_weights_classifier_included(tmp_path, suffix):
    spec, path = TimmModel(name="resnet18"), tmp_path / f"weights{suffix}"
    source = seeded(spec, seed=1)
    write = save_file if suffix == ".safetensors" else torch.save
    write(source.state_dict(), path)
    loaded = seeded(spec.model_copy(update={"checkpoint": path}), seed=2)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in source.state_dict().items())


def test_a_local_file_of_another_class_count_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(seeded(TimmModel(name="resnet18"), num_classes=3).state_dict(), path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        seeded(TimmModel(name="resnet18", checkpoint=path), num_classes=4)


def published(tmp_path: Path) -> Path:
    """A file of weights with a thousand classes, as timm publishes them."""
    path = tmp_path / "published.safetensors"
    save_file(seeded(TimmModel(name="test_resnet"), 3, 32, 1000).state_dict(), path)
    return path


def test_a_new_classifier_begins_on_the_published_weights_of_all_other_layers(tmp_path):
    path = published(tmp_path)
    spec = TimmModel(name="test_resnet", checkpoint=path, new_classifier=True)
    network, weights = seeded(spec, 3, 32, 5, seed=3).network, load_file(path)
    own = network.state_dict()
    assert own["fc.weight"].shape == (5, weights["fc.weight"].shape[1])
    same = [name for name in own if not name.startswith("fc")]
    assert all(torch.equal(own[name], weights[name]) for name in same)


def test_published_weights_of_another_network_are_refused_with_what_does_not_fit(tmp_path):
    spec = TimmModel(name="test_vit", checkpoint=published(tmp_path), new_classifier=True)
    with pytest.raises(ValueError, match="does not fit VisionTransformer: .* missing, .* unknown"):
        seeded(spec, 3, 32, 5)


def test_images_reach_published_weights_scaled_and_normalised_as_they_expect():
    plain = seeded(TimmModel(name="resnet18"), 3, 48, 5).eval()
    spec = TimmModel(name="resnet18", input_size=48, normalise=True)
    model = seeded(spec, 3, 32, 5).eval()
    model.network.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    large = nn.functional.interpolate(images, (48, 48), mode="bicubic", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = plain((large - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))
    assert torch.allclose(model(images), expected, atol=1e-5)


def test_colours_are_normalised_for_published_weights_and_left_alone_otherwise():
    name = "test_resnet"
    assert TimmModel(name=name, pretrained=True).normalised
    assert TimmModel(name=name, checkpoint=Path("x"), new_classifier=True).normalised
    assert not TimmModel(name=name, checkpoint=Path("x")).normalised
    assert not TimmModel(name=name, pretrained=True, normalise=False).normalised


def test_a_new_classifier_without_a_file_is_refused():
    with pytest.raises(ValueError, match="name it in checkpoint"):
        TimmModel(name="test_resnet", new_classifier=True)


def test_wrn_28_2_has_the_published_number_of_parameters():
    assert num_parameters(seeded(WideResnet(), 3, 32, 10)) == 1_467_610


def test_a_wide_residual_network_of_an_impossible_depth_is_refused():
    with pytest.raises(ValueError, match="10, 16, 22, 28"):
        WideResnet(depth=18)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_the_features_of_a_timm_network_come_beside_its_logits(name):
    torch.manual_seed(0)
    network = build(TimmModel(name=name), 3, 32, 5).eval()
    images = torch.rand(2, 3, 32, 32)
    logits, features = logits_and_features(network, images)
    assert torch.equal(logits, network(images))
    assert features.shape[0] == 2
    assert features.ndim == 2
    assert torch.allclose(network.get_classifier()(features), logits, atol=1e-5)


def test_the_features_of_the_small_network_are_what_its_classifier_reads():
    torch.manual_seed(0)
    network = build(SmallCnn(width=8, dropout=0.5), 1, 28, 5).eval()
    images = torch.rand(2, 1, 28, 28)
    logits, features = logits_and_features(network, images)
    assert torch.equal(logits, network(images))
    assert features.shape == (2, 32)
    assert torch.equal(network.classifier(features), logits)


def test_features_under_bfloat16_autocast_are_finite():
    network = build(SmallCnn(width=8), 1, 28, 5).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, features = logits_and_features(network, torch.rand(2, 1, 28, 28))
    assert torch.isfinite(logits).all()
    assert torch.isfinite(features.float()).all()


def textbook(model: nn.Module) -> nn.Module:
    """The small network as it is usually written: ReLU, then pooling, and torch's own means."""
    layers = list(model.features)
    for at in (2, 6):
        layers[at], layers[at + 1] = layers[at + 1], layers[at]
    layers[11] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, model.classifier)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_small_network_computes_what_the_textbook_one_does_to_the_bit(layout, bfloat16):
    images = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    told = []
    for change in (nn.Identity(), textbook):
        model = change(seeded(SmallCnn())).to(memory_format=layout).train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            logits = model(images.contiguous(memory_format=layout))
        logits.float().square().sum().backward()
        told.append([logits.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*told, strict=True))
