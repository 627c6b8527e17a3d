import pytest
import torch

from stages.core.backbones import BACKBONES, build_backbone, count_network_parameters, describe_backbone
from stages.core.network import MultiTaskNetwork, NetworkSpecification

CLASSES = {"expression": ["happy", "sad", "angry"], "pose": ["left", "right"], "age": ["young", "old"]}


def build(classes=CLASSES, image_shape=(16, 16, 3), identity=0.9, backbone="vgg_tiny", **options):
    channels = image_shape[2]
    torch.manual_seed(0)
    specification = NetworkSpecification(
        backbone, image_shape, 8, classes, identity, options.get("mean", [0.5] * channels), [0.25] * channels
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


@pytest.mark.parametrize("backbone", ["vgg_tiny", "vgg11", "vgg16_bn"])
def test_parameters_and_outputs_are_counted_without_building(backbone):
    shape = (64, 48, 3)
    network = build(image_shape=shape, backbone=backbone)
    counted = count_network_parameters(backbone, shape, 8, {task: len(names) for task, names in CLASSES.items()})
    assert counted == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "vgg_tiny"])
def test_torchvisions_layers_are_those_described(backbone):
    n_parameters, n_values = describe_backbone(backbone, (32, 32, 3))
    layers = build_backbone(backbone, (32, 32, 3))
    assert sum(parameter.numel() for parameter in layers.parameters()) == n_parameters
    assert layers.eval()(torch.zeros(1, 3, 32, 32)).flatten(1).shape[1] == n_values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet"}, "unknown backbone 'resnet'"),
        ({"backbone": "vgg16"}, "needs images of at least 32x32 pixels, not 16x16"),
        ({"backbone": "vgg16", "image_shape": (32, 32, 1)}, "set images.channels to 3, not 1"),
        ({"mean": [0.5]}, "images.mean has 1 values for 3 channels"),
        ({"pretrained": "VGG16_Weights.IMAGENET1K_V1"}, "no weights for vgg_tiny"),
        (
            {"backbone": "vgg11", "image_shape": (32, 32, 3), "pretrained": "missing.pth"},
            "cannot load 'missing.pth'",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_local_weights_fill_the_convolutions(tmp_path):
    donor = build_backbone("vgg11", (32, 32, 3))
    path = tmp_path / "vgg11.pth"
    torch.save({f"features.{name}": value for name, value in donor.state_dict().items()} | {"classifier": 1}, path)
    network = build(backbone="vgg11", image_shape=(32, 32, 3), pretrained=str(path))
    for name, value in donor.state_dict().items():
        torch.testing.assert_close(network.backbone.state_dict()[name], value)
    torch.save({f"features.{name}": torch.zeros(1) for name in donor.state_dict()}, path)
    with pytest.raises(ValueError, match="does not fit vgg11: size mismatch"):
        build(backbone="vgg11", image_shape=(32, 32, 3), pretrained=str(path))
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"cannot load .* download it beforehand"):
        build(backbone="vgg11", image_shape=(32, 32, 3), pretrained=str(path))
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="it belongs to another network"):
        build(backbone="vgg11", image_shape=(32, 32, 3), pretrained=str(path))
