"""What is known of pretrained weights by their name alone: the normalisation they were trained with, their licence."""

from collections.abc import Sequence

from stages.core.errors import UserError
from stages.core.suggestions import suggest

FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
WITHOUT_PRETRAINED = 0.5
"""Mean and standard deviation of pixel values in [0, 1] where there are no pretrained weights."""


def is_file(pretrained: str | None) -> bool:
    """Whether pretrained weights are those of a local file, not a name of torchvision's."""
    return pretrained is not None and pretrained.endswith(FILE_SUFFIXES)


def find_weights(backbone: str, pretrained: str):
    """The member of torchvision's enums that has this name, such as `VGG16_Weights.IMAGENET1K_V1`.

    Raises:
        ValueError: the network has no such weights; the message lists those that it has.
    """
    from torchvision.models import get_model_weights

    enumeration = get_model_weights(backbone)
    members = {f"{enumeration.__name__}.{name}": one for name, one in enumeration.__members__.items()}
    if pretrained not in members:
        raise UserError(
            f"network.pretrained: '{pretrained}' is neither a file ({', '.join(FILE_SUFFIXES)}) nor the name of "
            f"weights of {backbone}{suggest(pretrained, members)}"
        )
    return members[pretrained]


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
        pretrained: torchvision's name of them, or the name of a file; None for random weights.
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

        name = _name_file(pretrained)
        members = [one for one in get_model_weights(backbone) if _name_file(one.url) == name]
        if not members:
            raise UserError(
                f"network.pretrained: '{pretrained}' has none of the names of torchvision's weights of {backbone}, so "
                "that their normalisation is not known; set images.mean and images.std to what they were trained with"
            )
        weights = members[0]
    else:
        weights = find_weights(backbone, pretrained)
    if backbone in ("googlenet", "inception_v3"):
        # In torchvision they convert what is normalised as its transforms say to this.
        return list(mean or [0.5] * 3), list(std or [0.5] * 3)
    transforms = weights.transforms()
    return list(mean or transforms.mean), list(std or transforms.std)


def describe_licence(backbone: str, pretrained: str | None) -> str | None:
    """What a user of pretrained weights should know of their licence; None without such weights."""
    if pretrained is None:
        return None
    if is_file(pretrained):
        return f"started from the file {_name_file(pretrained)}; its licence is with whoever gave it out."
    if licence := find_weights(backbone, pretrained).meta.get("license"):
        return f"started from torchvision's {pretrained}, whose licence is {licence}."
    return (
        f"started from torchvision's {pretrained}. Torchvision is under the BSD 3-Clause licence; its weights may have "
        "terms that derive from the data they were trained on. ImageNet's images are for non-commercial research and "
        "education only (image-net.org/download)."
    )


def _name_file(place: str) -> str:
    """The last part of a path or address."""
    return place.rpartition("/")[2]
