import subprocess
import sys

import pytest
import safetensors.torch
import torch

from stages.core.backbones import build_backbone, count_network_parameters, describe_backbone
from stages.core.network import MultiTaskNetwork, NetworkSpecification, restore_network
from stages.core.weight_names import find_normalisation
from stages.storage.pretrained import load_pretrained

CLASSES = {"expression": ["happy", "sad", "angry"], "pose": ["left", "right"], "age": ["young", "old"]}


def build(classes=CLASSES, image_shape=(16, 16, 3), identity=0.9, backbone="vgg_tiny", **options):
    channels = image_shape[2]
    torch.manual_seed(0)
    specification = NetworkSpecification(
        backbone,
        image_shape,
        8,
        classes,
        identity,
        options.get("mean", [0.5] * channels),
        [0.25] * channels,
        separate=options.get("separate", False),
    )
    return MultiTaskNetwork(specification, options.get("pretrained"))


def test_every_task_gets_features_and_scores():
    network = build()
    features, scores = network.extract(torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8))
    assert {task: tuple(values.shape) for task, values in features.items()} == dict.fromkeys(CLASSES, (5, 8))
    assert {task: tuple(values.shape) for task, values in scores.items()} == {
        "expression": (5, 3),
        "pose": (5, 2),
        "age": (5, 2),
    }
    assert all((values >= 0).all() for values in features.values())


def test_the_features_are_what_enters_the_classifier():
    network = build()
    features, scores = network.extract(torch.rand(4, 3, 16, 16) * 255)
    for task in CLASSES:
        torch.testing.assert_close(network.classifiers[f"task_{task}"](features[task]), scores[task])


def test_the_cross_stitch_unit_mixes_the_heads_as_its_matrix_says():
    network = build()
    images = torch.rand(4, 3, 16, 16) * 255
    shared = network.backbone((images - 127.5) / (0.25 * 255)).flatten(1)
    own = [head(shared) for head in network.heads.values()]
    features, _ = network.extract(images)
    for k, task in enumerate(CLASSES):
        mixed = sum(network.cross_stitch[k, j] * own[j] for j in range(3))
        torch.testing.assert_close(features[task], torch.relu(mixed))
    expected = torch.full((3, 3), 0.05) + 0.85 * torch.eye(3)
    torch.testing.assert_close(network.cross_stitch.data, expected)


def test_any_name_may_be_a_task():
    network = build(classes={"type": ["a", "b"], "train": ["c", "d"]})
    assert set(network(torch.zeros(1, 3, 16, 16))) == {"type", "train"}


def test_a_cross_stitch_unit_of_identity_one_keeps_the_tasks_apart():
    network = build(identity=1.0)
    torch.testing.assert_close(network.cross_stitch.data, torch.eye(3))


@pytest.mark.parametrize("backbone", ["vgg_tiny", "vgg11", "vgg16_bn", "resnet18"])
def test_parameters_are_counted(backbone):
    shape = (64, 48, 3)
    network = build(image_shape=shape, backbone=backbone)
    n_classes = {task: len(names) for task, names in CLASSES.items()}
    counted = count_network_parameters(describe_backbone(backbone, shape), 8, n_classes)
    assert counted == sum(parameter.numel() for parameter in network.parameters())
    counted = count_network_parameters(describe_backbone(backbone, shape), 8, n_classes, separate=True)
    separate = build(image_shape=shape, backbone=backbone, separate=True)
    assert counted == sum(parameter.numel() for parameter in separate.parameters())


def test_a_job_on_vgg_tiny_imports_no_torchvision_and_its_description_not_even_torch():
    code = """
import sys
from stages.core.backbones import build_backbone, check_backbone, count_outputs, describe_backbone
check_backbone("vgg_tiny", (16, 16, 3))
assert describe_backbone("vgg_tiny", (16, 16, 3)) == (72080, 256)
assert "torch" not in sys.modules
assert count_outputs("vgg_tiny", build_backbone("vgg_tiny", (16, 16, 3)), (16, 16, 3)) == 256
assert "torch" in sys.modules and "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet_18"}, "network.backbone: unknown 'resnet_18'; did you mean 'resnet18'?"),
        (
            {"backbone": "vit_b_32", "image_shape": (32, 32, 3)},
            r"'vit_b_32' cannot take images of 32x32 pixels \(Wrong image height! Expected 224 but got 32!\); change",
        ),
        ({"backbone": "vgg16"}, r"'vgg16' cannot take images of 16x16 pixels \(.*too small\); change images.height"),
        ({"image_shape": (7, 16, 3)}, "'vgg_tiny' needs images of at least 8x8 pixels, not 7x16; raise images.height"),
        ({"backbone": "vgg16", "image_shape": (32, 32, 1)}, "set images.channels to 3, not 1"),
        ({"mean": [0.5]}, "images.mean has 1 values for 3 channels"),
        ({"pretrained": {}}, "no weights for vgg_tiny"),
    ],
)
def test_what_does_not_fit_together_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_pretrained_weights_fill_the_convolutions():
    from torchvision.models import vgg11

    whole = vgg11()
    network = build(backbone="vgg11", image_shape=(32, 32, 3), pretrained=whole.state_dict() | {"classifier": 1})
    filled = network.backbone.state_dict()
    assert filled.keys() == whole.features.state_dict().keys()
    for name, value in whole.features.state_dict().items():
        assert torch.equal(filled[name], value)
    with pytest.raises(ValueError, match="do not fit vgg11: size mismatch"):
        build_backbone("vgg11", (32, 32, 3), {f"features.{name}": torch.zeros(1) for name in filled})
    with pytest.raises(ValueError, match=r"lack vgg11's 0\.bias; they belong to another network"):
        build_backbone("vgg11", (32, 32, 3), {"features.0.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("backbone", "n_values", "n_classifier"),
    [
        ("resnet18", 512, 513 * 1000),
        ("convnext_tiny", 768, 769 * 1000),
        ("mobilenet_v3_small", 576, 577 * 1024 + 1025 * 1000),
        ("densenet121", 1024, 1025 * 1000),
        ("swin_t", 768, 769 * 1000),
        ("mnasnet0_5", 1280, 1281 * 1000),
        ("squeezenet1_1", 512, 513 * 1000),
        ("regnet_y_400mf", 440, 441 * 1000),
    ],
)
def test_other_networks_are_shared_up_to_their_pooling(backbone, n_values, n_classifier):
    from torchvision.models import get_model

    n_parameters, counted = describe_backbone(backbone, (64, 64, 3))
    whole = sum(parameter.numel() for parameter in get_model(backbone).parameters())
    assert (n_parameters, counted) == (whole - n_classifier, n_values)
    network = build(backbone=backbone, image_shape=(64, 64, 3))
    features, _ = network.extract(torch.zeros(2, 3, 64, 64))
    assert features["pose"].shape == (2, 8)


def test_a_pretrained_backbone_sees_what_it_saw_in_its_own_network():
    """The whole network of torchvision, without its classifier, gives what the backbone gives."""
    from torchvision.models import get_model

    for name in ("resnet18", "convnext_tiny", "densenet121"):
        donor = get_model(name).eval()
        state = {key.replace(".norm1.", ".norm.1."): value for key, value in donor.state_dict().items()}
        state = {key: value for key, value in state.items() if "num_batches" not in key}
        backbone = build_backbone(name, (64, 64, 3), state).eval()
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        values = backbone(images).flatten(1)
        head = donor.fc if name == "resnet18" else donor.classifier
        head = head[-1] if name == "convnext_tiny" else head
        torch.testing.assert_close(head(values), donor(images))


def test_weights_of_a_deeper_network_are_refused():
    from torchvision.models import resnet34

    message = r"hold layer1\.2\.\S+, which resnet18 does not have; they belong to another"
    with pytest.raises(ValueError, match=message):
        build_backbone("resnet18", (32, 32, 3), resnet34().state_dict())


def test_files_of_weights_are_read(tmp_path):
    weights = {"features.0.weight": torch.ones(2)}
    path = tmp_path / "mine.pth"
    torch.save(weights, path)
    assert torch.equal(load_pretrained("vgg11", str(path))["features.0.weight"], torch.ones(2))
    safetensors.torch.save_file(weights, tmp_path / "mine.safetensors")
    assert load_pretrained("vgg11", str(tmp_path / "mine.safetensors")).keys() == weights.keys()
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(ValueError, match=r"holds more than tensors\); save the network's state_dict\(\)"):
        load_pretrained("vgg11", str(path))
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"cannot load .*it is no PyTorch file, or .*; save the network's state_dict"):
        load_pretrained("vgg11", str(path))
    with pytest.raises(ValueError, match=r"cannot load 'missing\.pth'"):
        load_pretrained("vgg11", "missing.pth")


@pytest.mark.parametrize("backbone", ["vgg_tiny", "vgg16", "resnet18", "regnet_x_400mf", "swin_v2_t"])
def test_a_restored_network_is_the_one_that_was_drawn(backbone):
    network = build(backbone=backbone, image_shape=(64, 64, 3))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    before = torch.get_rng_state()
    restored = restore_network(network.specification, weights)
    # Tables that are computed come with a network that is drawn.
    assert backbone.startswith(("regnet", "swin")) or torch.equal(torch.get_rng_state(), before)
    for (name, value), other in zip(network.named_parameters(), restored.parameters(), strict=True):
        assert torch.equal(value, other), name
        assert other.requires_grad
    for (name, value), other in zip(network.named_buffers(), restored.buffers(), strict=True):
        assert torch.equal(value, other), name
    images = torch.rand(2, 3, 64, 64) * 255
    for task, scores in network.eval()(images).items():
        assert torch.equal(scores, restored.eval()(images)[task])


def test_weights_of_another_type_are_refused():
    network = build()
    weights = {name: value.half() for name, value in network.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"cross_stitch is float16 \(3, 3\), not float32 \(3, 3\); backbone"):
        restore_network(network.specification, weights)


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("backbone", "pretrained", "expected"),
    [
        ("resnet18", None, ([0.5] * 3, [0.5] * 3)),
        ("resnet18", "ResNet18_Weights.IMAGENET1K_V1", IMAGENET),
        ("resnet18", "weights/resnet18-f37072fd.pth", IMAGENET),
        ("vgg16", "VGG16_Weights.IMAGENET1K_FEATURES", ([0.48235, 0.45882, 0.40784], [1 / 255] * 3)),
        ("googlenet", "GoogLeNet_Weights.IMAGENET1K_V1", ([0.5] * 3, [0.5] * 3)),
        ("vgg11", "VGG11_Weights.DEFAULT", IMAGENET),
    ],
)
def test_pretrained_weights_bring_their_normalisation(backbone, pretrained, expected):
    found = find_normalisation(backbone, pretrained, 3)
    for values, wanted in zip(found, expected, strict=True):
        assert values == pytest.approx(wanted)
    assert find_normalisation(backbone, pretrained, 3, [0.1, 0.2, 0.3])[0] == [0.1, 0.2, 0.3]


def test_weights_that_cannot_be_had_say_where_they_are():
    with pytest.raises(ValueError, match=r"'mine.pth' has none of the names .* set images.mean and images.std"):
        find_normalisation("resnet18", "mine.pth", 3)
    assert find_normalisation("resnet18", "mine.pth", 3, [0.1] * 3, [0.2] * 3) == ([0.1] * 3, [0.2] * 3)
    with pytest.raises(ValueError, match=r"nor the name of weights of resnet18; did you mean 'ResNet18_Weights"):
        load_pretrained("resnet18", "Resnet18_Weights.IMAGENET1K_V1")


def test_without_a_network_the_message_names_the_file_to_fetch(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    message = r"\(Name or service not known\); without a network, fetch https://\S*/resnet18-f37072fd.pth beforehand"
    with pytest.raises(ValueError, match=message):
        load_pretrained("resnet18", "ResNet18_Weights.IMAGENET1K_V1")
