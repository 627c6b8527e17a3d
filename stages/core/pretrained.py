"""Pretrained weights: by torchvision's name or from a file, and the normalisation they were trained with."""

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from stages.core.suggestions import suggest

FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
WITHOUT_PRETRAINED = 0.5
"""Mean and standard deviation of pixel values in [0, 1] where there are no pretrained weights."""


def is_file(pretrained: str | None) -> bool:
    """Whether pretrained weights are those of a local file, not a name of torchvision's."""
    return pretrained is not None and pretrained.endswith(FILE_SUFFIXES)


def load_pretrained(backbone: str, pretrained: str) -> Mapping:
    """A state dict of the network that `backbone` is a part of.

    Args:
        backbone: name of a classification network of torchvision.
        pretrained: a name from torchvision's weights enums such as `VGG16_Weights.IMAGENET1K_V1`,
            which is downloaded unless torch's cache has it, or the path of a state dict (`.pth`,
            `.pt` or `.safetensors`).

    Raises:
        ValueError: the weights belong to another network or cannot be had; the message says where
            to download them beforehand.
    """
    return _load_file(pretrained if is_file(pretrained) else fetch_pretrained(backbone, pretrained))


def fetch_pretrained(backbone: str, pretrained: str) -> str:
    """The path of named weights in torch's cache, to which they are downloaded if need be.

    Raises:
        ValueError: see `load_pretrained`.
    """
    import torch

    url = _find_weights(backbone, pretrained).url
    path = PurePath(torch.hub.get_dir(), "checkpoints", PurePath(url).name)
    try:
        if not os.path.exists(path):
            os.makedirs(path.parent, exist_ok=True)
            # The names end in the beginning of the files' hash.
            torch.hub.download_url_to_file(url, str(path), path.stem.rsplit("-", 1)[-1], progress=False)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"network.pretrained: cannot download '{pretrained}' ({_first_line(error)}); without a network, fetch "
            f"{url} beforehand and set network.pretrained to the file's path"
        ) from None
    return str(path)


def find_normalisation(
    backbone: str,
    pretrained: str | None,
    n_channels: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixel values in [0, 1], per channel.

    What is given stands. What is not is what the pretrained weights were trained with, 0.5 without
    such. A local file is known by the name under which torchvision's weights are downloaded.

    Args:
        backbone: name of the network.
        pretrained: see `load_pretrained`; None for random weights.
        n_channels: of the images.
        mean: of the settings, one number per channel.
        std: of the settings, one number per channel.

    Raises:
        ValueError: what weights were trained with is not known.
    """
    if mean and std:
        return list(mean), list(std)
    if not pretrained:
        plain = [WITHOUT_PRETRAINED] * n_channels
        return list(mean or plain), list(std or plain)
    if is_file(pretrained):
        from torchvision.models import get_model_weights

        name = PurePath(pretrained).name
        members = [one for one in get_model_weights(backbone) if PurePath(one.url).name == name]
        if not members:
            raise ValueError(
                f"network.pretrained: '{pretrained}' has none of the names of torchvision's weights of {backbone}, so "
                "that their normalisation is not known; set images.mean and images.std to what they were trained with"
            )
        weights = members[0]
    else:
        weights = _find_weights(backbone, pretrained)
    if backbone in ("googlenet", "inception_v3"):
        # In torchvision they convert what is normalised as its transforms say to this.
        return list(mean or [0.5] * 3), list(std or [0.5] * 3)
    transforms = weights.transforms()
    return list(mean or transforms.mean), list(std or transforms.std)


def _load_file(path: str) -> Mapping:
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        # Torch's own message advises to run whatever code the file holds.
        raise ValueError(
            f"network.pretrained: cannot load '{path}' (it is no PyTorch file, or holds more than tensors); save the "
            "network's state_dict() and name that file"
        ) from None
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError) as error:
        raise ValueError(
            f"network.pretrained: cannot load '{path}' ({_first_line(error)}); name a file that holds a state dict"
        ) from None
    if not isinstance(state, Mapping):
        message = f"network.pretrained: '{path}' holds a {type(state).__name__}, not a state dict"
        raise ValueError(message)  # noqa: TRY004  a wrong file, not a wrong call
    return state


def _find_weights(backbone: str, pretrained: str):
    from torchvision.models import get_model_weights

    enumeration = get_model_weights(backbone)
    members = {f"{enumeration.__name__}.{name}": one for name, one in enumeration.__members__.items()}
    if pretrained not in members:
        raise ValueError(
            f"network.pretrained: '{pretrained}' is neither a file ({', '.join(FILE_SUFFIXES)}) nor the name of "
            f"weights of {backbone}{suggest(pretrained, members)}"
        )
    return members[pretrained]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def describe_licence(backbone: str, pretrained: str | None) -> str | None:
    """What a user of pretrained weights should know of their licence; None without such weights."""
    if pretrained is None:
        return None
    if is_file(pretrained):
        return f"started from the file {PurePath(pretrained).name}; its licence is with whoever gave it out."
    if licence := _find_weights(backbone, pretrained).meta.get("license"):
        return f"started from torchvision's {pretrained}, whose licence is {licence}."
    return (
        f"started from torchvision's {pretrained}. Torchvision is under the BSD 3-Clause licence; its weights may have "
        "terms that derive from the data they were trained on. ImageNet's images are for non-commercial research and "
        "education only (image-net.org/download)."
    )
