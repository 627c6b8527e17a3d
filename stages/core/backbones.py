"""Shared layers: a narrow network for small images, or a classification network of torchvision.

Torchvision's are built and measured. What the narrow one looks like is known here without importing
torch, which would take longer than all else that is checked before a run.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise

from stages.core.errors import UserError
from stages.core.suggestions import suggest

TINY_WIDTHS = (16, 32, 64)
"""Of vgg_tiny's blocks: two 3x3 convolutions each, and a 2x2 max pooling (after Simonyan and Zisserman, 2015)."""
CLASSIFIERS = ("classifier", "fc", "head", "heads", "AuxLogits", "aux1", "aux2")
"""Parts of torchvision's networks that are not shared."""


def describe_backbone(name: str, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Number of parameters of a backbone and of values in its flattened output.

    Args:
        name: `vgg_tiny`, or a classification network of torchvision.
        image_shape: height and width in pixels, and channels.

    Raises:
        ValueError: the backbone is unknown or cannot take such images.
    """
    if name != "vgg_tiny":
        backbone = _build_without_weights(name, image_shape)
        return sum(parameter.numel() for parameter in backbone.parameters()), count_outputs(name, backbone, image_shape)
    height, width, channels = image_shape
    scale = 2 ** len(TINY_WIDTHS)
    if min(height, width) < scale:
        raise UserError(
            f"backbone 'vgg_tiny' needs images of at least {scale}x{scale} pixels, not {height}x{width}; "
            "raise images.height and images.width"
        )
    n_parameters = sum(9 * (before + after) * after + 2 * after for before, after in pairwise((channels, *TINY_WIDTHS)))
    return n_parameters, (height // scale) * (width // scale) * TINY_WIDTHS[-1]


def check_backbone(name: str, image_shape: tuple[int, int, int], *, pretrained: bool = False) -> None:
    """Whether there is such a backbone, for such channels, and whether it can have pretrained weights.

    Args:
        name: one of `VGG_BACKBONES`, or another classification network of torchvision.
        image_shape: height and width in pixels, and channels.
        pretrained: see `load_pretrained`.

    Raises:
        ValueError: there is not, or it cannot.
    """
    if name == "vgg_tiny":
        if pretrained:
            raise UserError("network.pretrained: there are no weights for vgg_tiny; set it to null")
        return
    from torchvision import models

    if name not in (known := models.list_models(module=models)):
        raise UserError(f"network.backbone: unknown '{name}'{suggest(name, ['vgg_tiny', *known])}")
    if image_shape[2] != 3:
        raise UserError(f"backbone '{name}' takes colour images; set images.channels to 3, not {image_shape[2]}")


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


def build_backbone(name: str, image_shape: tuple[int, int, int], pretrained: Mapping | None = None):
    """The shared layers as a `torch.nn.Module` from (B, C, H, W) to (B, …).

    Of the VGG family and AlexNet these are the convolutions; other networks are kept up to their
    pooling, without the classifier.

    Args:
        name: `vgg_tiny`, or a classification network of torchvision.
        image_shape: height and width in pixels, and channels.
        pretrained: state dict of the whole network that the backbone is a part of; None starts from
            random weights.

    Raises:
        ValueError: the backbone is unknown or takes no such channels, or the weights are another network's.
    """
    check_backbone(name, image_shape, pretrained=pretrained is not None)
    if name == "vgg_tiny":
        return _build_vgg_tiny(image_shape[2])
    backbone = _build_torchvision(name)
    if pretrained is not None:
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
    if name == "vgg_tiny":
        return describe_backbone(name, image_shape)[1]
    import torch

    training = backbone.training
    state = {key: torch.empty_like(value, device="meta") for key, value in backbone.state_dict().items()}
    height, width, channels = image_shape
    image = torch.empty(1, channels, height, width, device="meta")
    try:
        return torch.func.functional_call(backbone.eval(), state, (image,)).flatten(1).shape[1]
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"backbone '{name}' cannot take images of {height}x{width} pixels ({str(error).splitlines()[0]}); "
            "change images.height and images.width, or network.backbone"
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
    for before, after in pairwise((channels, *TINY_WIDTHS)):
        for n_inputs in (before, after):
            convolution = nn.Conv2d(n_inputs, after, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
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
    if name.startswith("vgg"):
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


def _fill(backbone, name: str, pretrained: Mapping) -> None:
    # Files of old DenseNets call `norm1` `norm.1`.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): one for key, one in pretrained.items()}
    if name.startswith("vgg"):
        state = {key.removeprefix("features."): value for key, value in state.items()}
    wanted = backbone.state_dict().keys()
    # A counter that old files lack and nothing here uses.
    missing = sorted(key for key in wanted - state.keys() if not key.endswith("num_batches_tracked"))
    if missing:
        raise UserError(f"network.pretrained: the weights lack {name}'s {missing[0]}; they belong to another network")
    # Such as the further blocks of a deeper network of the same family.
    if further := sorted(key for key in state.keys() - wanted if key.split(".")[0] not in CLASSIFIERS):
        raise UserError(
            f"network.pretrained: the weights hold {further[0]}, which {name} does not have; they belong to another one"
        )
    try:
        backbone.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"network.pretrained: the weights do not fit {name}: {reason}") from None
