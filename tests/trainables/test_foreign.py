"""Foreign label sources: their classes become ours, and what does not fit is refused in words."""

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from trainables.foreign import CallableSource, PrototypeSource, TimmSource, files_of, load_source
from trainables.models import pretrained_network

TINY, SIDE, FEATURES = "test_resnet", 160, 96
"""timm's own network for tests, its input side and how many features it pools."""
OUTPUTS = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15], [0.5, 0.1, 0.1, 0.1, 0.2]])
"""Probabilities of five foreign classes for two images."""


@pytest.fixture
def functions(tmp_path, monkeypatch) -> str:
    """A module of functions that label two images, whatever they show."""
    (tmp_path / "my_sources.py").write_text(
        "import torch\n"
        f"OUTPUTS = torch.tensor({OUTPUTS.tolist()})\n"
        "def told(images):\n    return OUTPUTS.log()\n"
        "def logits(images):\n    return OUTPUTS.log() + torch.tensor([[3.0], [-7.0]])\n"
        "def half(images):\n    return OUTPUTS.log().half()\n"
        "def shapes(images):\n    return images.mean((1, 2, 3))[:, None] * torch.arange(3.0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "my_sources"


def labels(target: str, classes=(), num_classes: int = 5) -> torch.Tensor:
    """Probabilities that a callable source gives the two images."""
    source = CallableSource(target=target, classes=classes)
    return load_source(source, num_classes).eval()(torch.rand(2, 1, 8, 8)).exp()


def checkpoint(path, num_outputs: int = 4, seed: int = 0):
    """Random weights of the tiny network as a file, and the network that holds them."""
    torch.manual_seed(seed)
    network = timm.create_model(TINY, num_classes=num_outputs)
    save_file(network.state_dict(), path)
    return network.eval()


@pytest.fixture
def tiny(tmp_path):
    """A file of weights with four outputs, and its network."""
    with torch.random.fork_rng(devices=[]):
        return tmp_path / "tiny.safetensors", checkpoint(tmp_path / "tiny.safetensors")


def test_a_callable_that_returns_log_probabilities_is_taken_as_it_is(functions):
    assert torch.allclose(labels(f"{functions}:told"), OUTPUTS)


def test_a_callable_may_return_logits(functions):
    assert torch.allclose(labels(f"{functions}:logits"), OUTPUTS, atol=1e-6)


def test_a_callable_in_half_precision_gives_float32(functions):
    found = labels(f"{functions}:half")
    assert found.dtype == torch.float32
    assert torch.allclose(found, OUTPUTS, atol=1e-3)


def test_probabilities_of_outputs_of_one_class_are_added_and_what_is_unmapped_is_left_out(
    functions,
):
    found = labels(f"{functions}:told", ((0, 1), (4,), (3,)), 3)
    first = torch.tensor([[0.3, 0.15, 0.25], [0.6, 0.2, 0.1]])
    assert torch.allclose(found, first / first.sum(1, keepdim=True), atol=1e-6)


def test_an_output_may_stand_for_two_classes(functions):
    found = labels(f"{functions}:told", ((0,), (0,)), 2)
    assert torch.allclose(found, torch.full((2, 2), 0.5))


def test_a_map_may_reorder_classes(functions):
    found = labels(f"{functions}:told", ((4,), (3,), (2,), (1,), (0,)))
    assert torch.allclose(found, OUTPUTS.flip(1))


def test_impossible_outputs_leave_their_class_impossible(tmp_path, monkeypatch):
    (tmp_path / "my_certain.py").write_text(
        "import torch\ndef f(images):\n    return torch.tensor([[1.0, 0.0, 0.0, 0.0]]).log()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert labels("my_certain:f", ((0, 1), (2, 3)), 2).tolist() == [[1.0, 0.0]]


def test_a_map_of_another_number_of_classes_is_refused(functions):
    with pytest.raises(ValueError, match="classes names 2 classes, the data set has 3"):
        labels(f"{functions}:told", ((0,), (1,)), 3)


def test_of_a_class_that_no_output_stands_for_nothing_is_said(functions):
    found = labels(f"{functions}:told", ((0,), (), (1,)), 3)
    assert (found[:, 1] == 0).all()
    assert found[:, [0, 2]] == pytest.approx(labels(f"{functions}:told", ((0,), (1,)), 2))


def test_a_source_that_knows_no_class_is_refused(functions):
    with pytest.raises(ValueError, match="at least one output for one of our classes"):
        labels(f"{functions}:told", ((), ()), 2)


def test_an_output_beyond_the_sources_is_refused(functions):
    with pytest.raises(ValueError, match="classes names output 5, the source has 5"):
        labels(f"{functions}:told", ((0,), (5,)), 2)


def test_a_negative_output_is_refused(functions):
    with pytest.raises(ValueError, match="classes"):
        labels(f"{functions}:told", ((0,), (-1,)), 2)


def test_an_output_named_twice_for_a_class_is_refused(functions):
    with pytest.raises(ValueError, match="classes"):
        labels(f"{functions}:told", ((0, 0), (1,)), 2)


def test_other_outputs_than_classes_need_a_map(functions):
    with pytest.raises(ValueError, match="5 outputs, the data set 10 classes: name in `classes`"):
        labels(f"{functions}:told", (), 10)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("no_such_module_at_all:f", "No module named"), ("torch:no_such_name", "no attribute")],
)
def test_a_callable_that_is_nowhere_is_refused_with_its_target(target, reason):
    with pytest.raises(ValueError, match=f"label source '{target}' can't be loaded: .*{reason}"):
        load_source(CallableSource(target=target), 5)


@pytest.mark.parametrize("target", ["module", "module:", "a b:c", "module:object.method"])
def test_a_target_that_names_no_function_of_a_module_is_refused(target):
    with pytest.raises(ValidationError, match="target"):
        CallableSource(target=target)


def test_a_callable_sees_the_images_and_labels_each_on_its_own(functions):
    module = load_source(CallableSource(target=f"{functions}:shapes"), 3)
    images = torch.rand(6, 1, 8, 8)
    assert torch.allclose(torch.cat([module(images[:2]), module(images[2:])]), module(images))
    assert not torch.allclose(module(images)[0], module(images)[1])


def test_a_local_checkpoint_labels_as_its_network_does_on_prepared_images(tiny):
    path, network = tiny
    source = TimmSource(model=TINY, checkpoint=path, num_outputs=4)
    images = torch.rand(3, 3, SIDE, SIDE)
    wanted = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(wanted[name]).view(3, 1, 1) for name in ("mean", "std"))
    expected = torch.log_softmax(network((images - mean) / std), dim=1)
    assert torch.allclose(load_source(source, 4)(images), expected, atol=1e-5)


def test_outputs_of_a_checkpoint_are_mapped(tiny):
    path, _ = tiny
    images = torch.rand(2, 3, SIDE, SIDE)
    whole = load_source(TimmSource(model=TINY, checkpoint=path, num_outputs=4), 4)(images).exp()
    mapped = TimmSource(model=TINY, checkpoint=path, num_outputs=4, classes=((0, 3), (1, 2)))
    found = load_source(mapped, 2)(images).exp()
    assert torch.allclose(found[:, 0], whole[:, 0] + whole[:, 3], atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(2))


def test_a_grey_image_is_seen_as_a_colour_image_of_equal_channels(tiny):
    path, _ = tiny
    module = pretrained_network(TINY, path, 4)
    grey = torch.rand(2, 1, SIDE, SIDE)
    assert torch.allclose(module(grey), module(grey.expand(-1, 3, -1, -1)), atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 40), (200, 200)])
def test_images_of_other_sizes_are_scaled_to_what_the_weights_expect(tiny, size):
    path, _ = tiny
    module = pretrained_network(TINY, path, 4)
    images = torch.rand(2, 3, *size)
    scaled = torch.nn.functional.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True)
    assert torch.equal(module(images), module(scaled))
    assert module(images).shape == (2, 4)


def test_an_image_of_one_colour_looks_the_same_at_every_size(tiny):
    path, _ = tiny
    module = pretrained_network(TINY, path, 4)
    small, large = (module(torch.full((1, 3, side, side), 0.3)) for side in (8, SIDE))
    assert torch.allclose(small, large, atol=1e-4)


@pytest.mark.parametrize(("num_outputs", "width"), [(None, 1000), (7, 7), (0, FEATURES)])
def test_a_network_has_its_own_outputs_or_those_asked_for_or_features(tmp_path, num_outputs, width):
    path = tmp_path / "weights.pt"
    torch.save(timm.create_model(TINY, num_classes=num_outputs or 1000).state_dict(), path)
    assert pretrained_network(TINY, path, num_outputs)(torch.rand(1, 1, 8, 8)).shape == (1, width)


def test_a_source_labels_alike_whatever_the_batch_and_learns_nothing(tiny):
    path, _ = tiny
    module = load_source(TimmSource(model=TINY, checkpoint=path, num_outputs=4), 4).eval()
    images = torch.rand(5, 1, 8, 8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    whole = module(images)
    apart = torch.cat([module(image[None]) for image in images])
    assert torch.allclose(apart, whole, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_checkpoint_of_another_number_of_outputs_is_refused(tiny):
    path, _ = tiny
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_source(TimmSource(model=TINY, checkpoint=path, num_outputs=6), 6)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(RuntimeError, match="Missing key"):
        pretrained_network(TINY, tmp_path / "other.safetensors", 4)


def test_an_unknown_network_is_refused_with_near_names():
    with pytest.raises(
        ValueError, match=r"timm knows no model 'test_resnett'\. Did you mean test_resnet"
    ):
        load_source(TimmSource(model="test_resnett"), 4)


def embeddings(path, values: torch.Tensor, name: str = "classes"):
    save_file({name: values}, path)
    return path


@pytest.fixture
def prototypes(tiny, tmp_path):
    """A prototype source whose classes are the features of three images, and these images."""
    path, _ = tiny
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    features = pretrained_network(TINY, path, 0)(images).detach()
    file = embeddings(tmp_path / "classes.safetensors", features)
    source = PrototypeSource(model=TINY, checkpoint=path, embeddings=file)
    return source, images, features


def test_an_image_is_labelled_by_the_embedding_that_its_features_are_nearest_to(prototypes):
    source, images, features = prototypes
    found = load_source(source, 3)(images)
    unit = torch.nn.functional.normalize(features, dim=1)
    assert found.argmax(1).tolist() == [0, 1, 2]
    assert torch.allclose(found, torch.log_softmax(unit @ unit.T / 0.01, dim=1), atol=1e-3)


def test_the_length_of_an_embedding_means_nothing(prototypes, tmp_path):
    source, images, features = prototypes
    longer = embeddings(tmp_path / "longer", features * torch.tensor([[2.0], [0.1], [7.0]]))
    found = load_source(source.model_copy(update={"embeddings": longer}), 3)(images)
    assert torch.allclose(found, load_source(source, 3)(images), atol=1e-3)


def test_a_higher_temperature_makes_prototypes_less_sure(prototypes):
    source, images, _ = prototypes
    sure, less = (
        load_source(source.model_copy(update={"temperature": t}), 3)(images).exp().amax(1)
        for t in (0.01, 1.0)
    )
    assert (less < sure).all()
    assert torch.allclose(less, torch.full((3,), 1 / 3), atol=0.2)


def test_a_classifier_in_the_checkpoint_is_not_read_for_features(tiny, tmp_path):
    path, network = tiny
    found = pretrained_network(TINY, path, 0)(torch.zeros(1, 3, SIDE, SIDE))
    bare = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    save_file(bare, tmp_path / "bare.safetensors")
    assert torch.equal(
        pretrained_network(TINY, tmp_path / "bare.safetensors", 0)(torch.zeros(1, 3, SIDE, SIDE)),
        found,
    )


@pytest.mark.parametrize(
    ("values", "name", "found"),
    [
        (torch.ones(4, FEATURES), "classes", r"\(4, 96\)"),
        (torch.ones(3), "classes", r"\(3,\)"),
        (torch.ones(3, FEATURES), "embeddings", "'embeddings'"),
    ],
)
def test_embeddings_of_the_wrong_form_are_refused_with_what_was_found(
    prototypes, tmp_path, values, name, found
):
    source, _, _ = prototypes
    file = embeddings(tmp_path / "wrong.safetensors", values, name)
    with pytest.raises(ValueError, match=rf"must hold 'classes' \[3, D\], found .*{found}"):
        load_source(source.model_copy(update={"embeddings": file}), 3)


def test_embeddings_of_another_width_than_the_features_are_refused(prototypes, tmp_path):
    source, images, _ = prototypes
    file = embeddings(tmp_path / "wide.safetensors", torch.ones(3, 12))
    module = load_source(source.model_copy(update={"embeddings": file}), 3)
    with pytest.raises(ValueError, match="embeddings have 12 numbers, the network's features 96"):
        module(images)


def test_the_files_of_a_source_are_named_by_their_fields(prototypes):
    source, _, _ = prototypes
    assert files_of(source) == {"checkpoint": source.checkpoint, "embeddings": source.embeddings}
    assert files_of(TimmSource(model=TINY, checkpoint="a.pt")).keys() == {"checkpoint"}
    assert files_of(TimmSource(model=TINY)) == files_of(CallableSource(target="a:b")) == {}


def test_a_source_can_be_moved_with_all_it_holds(prototypes):
    source, _, _ = prototypes
    module = load_source(source, 3).double()
    assert {v.dtype for v in module.state_dict().values() if v.is_floating_point()} == {
        torch.float64
    }
