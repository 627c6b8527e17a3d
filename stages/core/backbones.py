"""Shared convolutional layers: torchvision's VGG family and a narrow one for small images.

This module says what a backbone looks like without importing torch, so that sizes can be
estimated cheaply; `build_backbone` imports what it needs.
"""

from collections.abc import Mapping


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

BACKBONES = (*VGG_LAYERS, *(f"{name}_bn" for name in VGG_LAYERS if name != "vgg_tiny"))


def describe_backbone(name: str, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Number of parameters of a backbone and of values in its flattened output.

    Args:
        name: one of `BACKBONES`.
        image_shape: height and width in pixels, and channels.

    Raises:
        ValueError: the backbone is unknown or pools the image away.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone '{name}'; there are {', '.join(BACKBONES)}")
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
            f"{image_shape[0]}x{image_shape[1]}; raise images.height and images.width or choose vgg_tiny"
        )
    return n_parameters, height * width * channels


def check_backbone(name: str, image_shape: tuple[int, int, int], pretrained: str | None = None) -> None:
    """Whether a backbone can take such images and have such weights, without building it.

    Raises:
        ValueError: it cannot.
    """
    describe_backbone(name, image_shape)
    if name == "vgg_tiny" and pretrained:
        raise ValueError("network.pretrained: there are no weights for vgg_tiny; set it to null")
    if name != "vgg_tiny" and image_shape[2] != 3:
        raise ValueError(f"backbone '{name}' takes colour images; set images.channels to 3, not {image_shape[2]}")


def count_network_parameters(
    backbone: str, image_shape: tuple[int, int, int], head_features: int, n_classes: Mapping[str, int]
) -> int:
    """Parameters of the whole multi-task network, heads and cross-stitch unit included."""
    n_backbone, n_values = describe_backbone(backbone, image_shape)
    n_heads = sum((n_values + 1) * head_features + (head_features + 1) * n for n in n_classes.values())
    return n_backbone + n_heads + len(n_classes) ** 2


def build_backbone(name: str, image_shape: tuple[int, int, int], pretrained: str | None = None):
    """The convolutional layers as a `torch.nn.Module` from (B, C, H, W) to (B, C', H', W').

    Args:
        name: one of `BACKBONES`.
        image_shape: height and width in pixels, and channels.
        pretrained: a name from torchvision's weights enums such as
            `VGG16_Weights.IMAGENET1K_V1`, or the path of a state dict (`.pth`, `.safetensors`);
            None starts from random weights.

    Raises:
        ValueError: the backbone cannot take such images, or the weights cannot be had.
    """
    check_backbone(name, image_shape, pretrained)
    if name == "vgg_tiny":
        return _build_vgg_tiny(image_shape[2])
    from torchvision.models import get_model

    backbone = get_model(name, weights=None).features
    if pretrained:
        weights = _load_pretrained(name, pretrained, set(backbone.state_dict()))
        try:
            backbone.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"network.pretrained: '{pretrained}' does not fit {name}: {reason}") from None
    return backbone


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


def _load_pretrained(name: str, pretrained: str, wanted: set[str]) -> dict:
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        if pretrained.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(pretrained)
        elif pretrained.endswith((".pth", ".pt")):
            import torch

            state = torch.load(pretrained, map_location="cpu", weights_only=True)
        else:
            from torchvision.models import get_weight

            state = get_weight(pretrained).get_state_dict(progress=False)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"network.pretrained: cannot load '{pretrained}' ({_first_line(error)}); without a network, download it "
            "beforehand and give its path"
        ) from None
    if not isinstance(state, Mapping):
        message = f"network.pretrained: '{pretrained}' holds a {type(state).__name__}, not a state dict"
        raise ValueError(message)  # noqa: TRY004  a wrong file, not a wrong call
    features = {key.removeprefix("features."): value for key, value in state.items()}
    missing = wanted - features.keys()
    if missing:
        raise ValueError(
            f"network.pretrained: '{pretrained}' has no weights for {name}'s {sorted(missing)[0]}; "
            "it belongs to another network"
        )
    return {key: features[key] for key in wanted}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
