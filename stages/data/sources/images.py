"""Any image Pillow can decode, brought to one shape and eight bits in a defined way."""

import numpy as np
from PIL import Image, ImageOps

from stages.core.errors import UserError
from stages.core.specification import FITS

MODES = {1: "L", 3: "RGB"}


def convert_image(image: Image.Image, *, channels: int, height: int, width: int, fit: str = "stretch") -> np.ndarray:
    """An image as an array of one shape.

    The EXIF orientation is applied. Palettes are looked up, CMYK and other colour spaces become
    RGB, and what is transparent lies on white. Black and white becomes 0 and 255. Sixteen-bit grey
    is divided by 257 and rounded, so that 65535 becomes 255. Colour becomes grey by Pillow's luma
    (ITU-R 601-2). Resizing is bilinear and antialiased, and comes last.

    Args:
        image: an image in any mode but float.
        channels: 1 (grey) or 3 (RGB).
        height: of the result, in pixels.
        width: of the result, in pixels.
        fit: `stretch` ignores the aspect ratio, `crop` cuts the largest centred box of the
            result's aspect ratio, `pad` keeps the whole image between black bars.

    Returns:
        uint8 of shape (height, width, channels).

    Raises:
        ValueError: the image holds floats or integers beyond 16 bits, which have no defined
            range, or an argument is none of its choices.
    """
    if channels not in MODES:
        raise UserError(f"images have 1 or 3 channels, not {channels}; set images.channels to one of them")
    if fit not in FITS:
        raise UserError(f"unknown fit '{fit}'; set images.fit to {', '.join(FITS)}")
    image = _to_eight_bits(ImageOps.exif_transpose(image), MODES[channels])
    return np.asarray(_resize(image, height, width, fit)).reshape(height, width, channels)


def _to_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise UserError("holds floating-point pixels, whose range is not defined; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UserError("holds integers beyond 16 bits, whose range is not defined; save it with 8 or 16 bits")
        if isinstance(image.info.get("transparency"), int):
            values[values == image.info["transparency"]] = 65535
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        on_white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(on_white, image)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image.convert(mode)


def _resize(image: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    if fit == "crop":
        scale = min(image.width / width, image.height / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        image = image.crop((left, top, left + size[0], top + size[1]))
    if fit == "pad":
        scale = min(width / image.width, height / image.height)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        padded = Image.new(image.mode, (width, height))
        padded.paste(image.resize(size, Image.Resampling.BILINEAR), ((width - size[0]) // 2, (height - size[1]) // 2))
        return padded
    return image.resize((width, height), Image.Resampling.BILINEAR)
