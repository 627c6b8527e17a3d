"""Shared layers: a narrow network for small images, torchvision's VGG family, and its other classification networks.

What the VGG family looks like is known here without importing torch, so that sizes can be estimated
cheaply; other networks are built and measured.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping

from stages.core.pretrained import load_pretrained
from stages.core.suggestions import suggest


def _stack(*blocks: tuple[int, int]) -> tuple[int | str, ...]:
    """Blocks of (number of convolutions, width), each followed by a pooling."""
    return tuple(layer for n_layers, width in blocks for layer in (*n_layers * (width,), "pool"))


VGG_LAYERS = {
    "vgg_tiny": _stack((2, 16), (2, 32), (2, 64)),
    "vgg11": _stack((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)),
    "vgg13": _stack((2, 64), (2, 128), (2, 256), (2, 512), (2, 512)),
    "vgg16": _stack((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
    "vgg19": _stack((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)),
}
"""Width of every 3x3 convolution and the place of every 2x2 max pooling (Simonyan and Zisserman, 2015)."""

CLASSIFIERS = ("classifier", "fc", "head", "heads", "AuxLogits", "aux1", "aux2")
"""Parts of torchvision's networks that are not shared."""
VGG_BACKBONES = (*VGG_LAYERS, *(f"{name}_bn" for name in VGG_LAYERS if name != "vgg_tiny"))


def describe_backbone(name: str, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Number of parameters of a backbone and of values in its flattened output.

    Args:
        name: one of `VGG_BACKBONES`, or another classification network of torchvision.
        image_shape: height and width in pixels, and channels.

    Raises:
        ValueError: the backbone is unknown or cannot take such images.
    """
    if name not in VGG_BACKBONES:
        backbone = _build_without_weights(name, image_shape)
        return sum(parameter.numel() for parameter in backbone.parameters()), count_outputs(name, backbone, image_shape)
    layers = VGG_LAYERS[name.removesuffix("_bn")]
    height, width, channels = image_shape
    n_parameters = 0
    for layer in layers:
        if layer == "pool":
            height, width = height // 2, width // 2
        else:
            n_parameters += 9 * channels * layer + layer * (3 if name.endswith("_bn") else 1)
            channels = layer
    if min(height, width) == 0:
        needed = 2 ** layers.count("pool")
        raise ValueError(
            f"backbone '{name}' needs images of at least {needed}x{needed} pixels, not "
            f"{image_shape[0]}x{image_shape[1]}; raise images.height and images.width"
            + (" or choose vgg_tiny" if name != "vgg_tiny" else "")
        )
    return n_parameters, height * width * channels


def check_backbone(name: str, image_shape: tuple[int, int, int], pretrained: str | None = None) -> None:
    """Whether there is such a backbone, for such channels, and pretrained weights for it.

    Args:
        name: one of `VGG_BACKBONES`, or another classification network of torchvision.
        image_shape: height and width in pixels, and channels.
        pretrained: see `load_pretrained`.

    Raises:
        ValueError: there is not, or it is of the VGG family and cannot take images of such a size.
    """
    if name == "vgg_tiny" and pretrained:
        raise ValueError("network.pretrained: there are no weights for vgg_tiny; set it to null")
    if name not in VGG_BACKBONES:
        from torchvision import models

        if name not in (known := models.list_models(module=models)):
            raise ValueError(f"network.backbone: unknown '{name}'{suggest(name, ['vgg_tiny', *known])}")
    if name != "vgg_tiny" and image_shape[2] != 3:
        raise ValueError(f"backbone '{name}' takes colour images; set images.channels to 3, not {image_shape[2]}")
    if name in VGG_BACKBONES:
        describe_backbone(name, image_shape)


def count_network_parameters(
    backbone: tuple[int, int], head_features: int, n_classes: Mapping[str, int], *, separate: bool = False
) -> int:
    """Parameters of the whole multi-task network, heads and cross-stitch unit included.

    Args:
        backbone: as `describe_backbone` returns it.
        head_features: d.
        n_classes: C by task.
        separate: whether every task has a backbone of its own and there is no cross-stitch unit.
    """
    n_backbone, n_values = backbone
    n_heads = sum((n_values + 1) * head_features + (head_features + 1) * n for n in n_classes.values())
    n_tasks = len(n_classes)
    return n_heads + (n_tasks * n_backbone if separate else n_backbone + n_tasks**2)


def build_backbone(name: str, image_shape: tuple[int, int, int], pretrained: str | None = None):
    """The shared layers as a `torch.nn.Module` from (B, C, H, W) to (B, …).

    Of the VGG family and AlexNet these are the convolutions; other networks are kept up to their
    pooling, without the classifier.

    Args:
        name: one of `VGG_BACKBONES`, or another classification network of torchvision.
        image_shape: height and width in pixels, and channels.
        pretrained: see `load_pretrained`; None starts from random weights.

    Raises:
        ValueError: the backbone is unknown or takes no such channels, or the weights cannot be had.
    """
    check_backbone(name, image_shape, pretrained)
    if name == "vgg_tiny":
        return _build_vgg_tiny(image_shape[2])
    backbone = _build_torchvision(name)
    if pretrained:
        _fill(backbone, name, pretrained)
    return backbone


def count_outputs(name: str, backbone, image_shape: tuple[int, int, int]) -> int:
    """Length of a backbone's flattened output for one image; no image is computed on.

    Args:
        name: of the backbone.
        backbone: as `build_backbone` returns it, on any device.
        image_shape: height and width in pixels, and channels.

    Raises:
        ValueError: the backbone cannot take such images.
    """
    if name in VGG_BACKBONES:
        return describe_backbone(name, image_shape)[1]
    import torch

    training = backbone.training
    state = {key: torch.empty_like(value, device="meta") for key, value in backbone.state_dict().items()}
    height, width, channels = image_shape
    image = torch.empty(1, channels, height, width, device="meta")
    try:
        return torch.func.functional_call(backbone.eval(), state, (image,)).flatten(1).shape[1]
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"backbone '{name}' cannot take images of {height}x{width} pixels ({str(error).splitlines()[0]}); "
            "change images.height and images.width"
        ) from None
    finally:
        backbone.train(training)


def _build_without_weights(name: str, image_shape: tuple[int, int, int]):
    import torch

    with torch.device("meta"):
        return build_backbone(name, image_shape)


def _build_vgg_tiny(channels: int):
    from torch import nn

    layers: list[nn.Module] = []
    for layer in VGG_LAYERS["vgg_tiny"]:
        if layer == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(channels, layer, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU(inplace=True)]
        channels = layer
    return nn.Sequential(*layers)


def _build_torchvision(name: str):
    import torch
    from torch import nn
    from torchvision.models import get_model

    # Only these two have auxiliary classifiers, which training by Algorithm 1 has no use for.
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    try:
        network = get_model(name, weights=None, **options)
    except NotImplementedError:
        # RegNets compute with tensors while they are built, which the meta device cannot.
        with torch.device("cpu"):
            network = get_model(name, weights=None, **options)
    if name in VGG_BACKBONES:
        return network.features
    if name == "alexnet":
        return nn.Sequential(OrderedDict(features=network.features))
    for layers in ("features", "layers"):
        # Their classifiers begin with the pooling, or pool in passing.
        if name.startswith(("squeezenet", "mnasnet")) and hasattr(network, layers):
            return nn.Sequential(OrderedDict({layers: getattr(network, layers), "pooling": nn.AdaptiveAvgPool2d(1)}))
    classifier_name, classifier = list(network.named_children())[-1]
    kept = []
    for layer in classifier if isinstance(classifier, nn.Sequential) else [classifier]:
        if isinstance(layer, nn.Linear | nn.Dropout):
            break
        kept.append(layer)
    setattr(network, classifier_name, nn.Sequential(*kept))
    if hasattr(network, "dropout"):
        network.dropout = nn.Identity()
    return network


def _fill(backbone, name: str, pretrained: str) -> None:
    state = load_pretrained(name, pretrained)
    # Files of old DenseNets call `norm1` `norm.1`.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): value for key, value in state.items()}
    if name in VGG_BACKBONES:
        state = {key.removeprefix("features."): value for key, value in state.items()}
    wanted = backbone.state_dict().keys()
    # A counter that old files lack and nothing here uses.
    missing = sorted(key for key in wanted - state.keys() if not key.endswith("num_batches_tracked"))
    if missing:
        raise ValueError(
            f"network.pretrained: '{pretrained}' has no weights for {name}'s {missing[0]}; "
            "it belongs to another network"
        )
    # Such as the further blocks of a deeper network of the same family.
    if further := sorted(key for key in state.keys() - wanted if key.split(".")[0] not in CLASSIFIERS):
        raise ValueError(
            f"network.pretrained: '{pretrained}' holds {further[0]}, which {name} does not have; "
            "it belongs to another network"
        )
    try:
        backbone.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"network.pretrained: '{pretrained}' does not fit {name}: {reason}") from None
