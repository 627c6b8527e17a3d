"""Pretrained weights, downloaded by torchvision's name or read from a file."""

import os
from collections.abc import Mapping
from pathlib import PurePath

from stages.core.errors import UserError
from stages.core.weight_names import find_weights, is_file


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

    url = find_weights(backbone, pretrained).url
    path = PurePath(torch.hub.get_dir(), "checkpoints", PurePath(url).name)
    try:
        if not os.path.exists(path):
            os.makedirs(path.parent, exist_ok=True)
            # The names end in the beginning of the files' hash.
            torch.hub.download_url_to_file(url, str(path), path.stem.rsplit("-", 1)[-1], progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"network.pretrained: cannot download '{pretrained}' ({_first_line(error)}); without a network, fetch "
            f"{url} beforehand and set network.pretrained to the file's path"
        ) from None
    return str(path)


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
        raise UserError(
            f"network.pretrained: cannot load '{path}' (it is no PyTorch file, or holds more than tensors); save the "
            "network's state_dict() and name that file"
        ) from None
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError) as error:
        raise UserError(
            f"network.pretrained: cannot load '{path}' ({_first_line(error)}); name a file that holds a state dict"
        ) from None
    if not isinstance(state, Mapping):
        message = f"network.pretrained: '{path}' holds a {type(state).__name__}, not a state dict"
        raise UserError(message)
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
