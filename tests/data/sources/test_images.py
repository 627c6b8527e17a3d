import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.data.sources.images import convert_image

GREY_OF_RED = 76  # 0.299 * 255


def convert_pixels(image, channels=3, fit="stretch"):
    return convert_image(image, channels=channels, height=image.height, width=image.width, fit=fit)


def make_image(mode, *pixels):
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def make_palette(*, transparency=None):
    image = make_image("P", 0, 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (make_image("RGB", (1, 2, 3), (200, 100, 50)), [(1, 2, 3), (200, 100, 50)]),
        (make_image("L", 7, 250), [(7, 7, 7), (250, 250, 250)]),
        (make_image("1", 0, 1), [(0, 0, 0), (255, 255, 255)]),
        (make_image("LA", (10, 255), (10, 0)), [(10, 10, 10), (255, 255, 255)]),
        (make_image("RGBA", (255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)), [(255, 0, 0), (255,) * 3, (204,) * 3]),
        (make_image("CMYK", (0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)), [(255,) * 3, (255, 0, 0), (0, 0, 0)]),
        (make_palette(), [(255, 0, 0), (0, 0, 255)]),
        (make_palette(transparency=1), [(255, 0, 0), (255, 255, 255)]),
        (make_palette(transparency=bytes([51, 255])), [(255, 204, 204), (0, 0, 255)]),
        (make_image("HSV", (0, 255, 255), (0, 0, 128)), [(255, 0, 0), (128, 128, 128)]),
    ],
    ids=["RGB", "L", "1", "LA", "RGBA", "CMYK", "P", "P-transparent", "P-alpha", "HSV"],
)
def test_modes_to_colour(image, expected):
    assert convert_pixels(image)[0].tolist() == [list(pixel) for pixel in expected]


def test_modes_to_grey():
    assert convert_pixels(make_image("RGB", (255, 0, 0), (9, 9, 9)), 1)[0, :, 0].tolist() == [GREY_OF_RED, 9]
    assert convert_pixels(make_image("L", 7, 250), 1)[0, :, 0].tolist() == [7, 250]
    assert convert_pixels(make_image("1", 0, 1), 1)[0, :, 0].tolist() == [0, 255]
    assert convert_pixels(make_image("LA", (10, 255), (10, 0)), 1)[0, :, 0].tolist() == [10, 255]
    assert convert_pixels(make_palette(), 1)[0, 0, 0] == GREY_OF_RED


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(mode, channels):
    values = np.array([[0, 128, 129, 300, 32767, 32768, 65535]])
    image = {
        "I;16": Image.fromarray(values.astype("<u2")),
        "I;16B": Image.frombytes("I;16B", (7, 1), values.astype(">u2").tobytes()),
        "I": Image.fromarray(values.astype(np.int32)),
    }[mode]
    assert image.mode == mode
    pixels = convert_pixels(image, channels)
    assert pixels.shape == (1, 7, channels)
    assert (pixels == np.array([0, 0, 1, 1, 127, 128, 255])[None, :, None]).all()


def test_sixteen_bit_transparency_lies_on_white():
    image = Image.fromarray(np.array([[0, 300]], dtype=np.uint16))
    image.info["transparency"] = 300
    assert convert_pixels(image, 1)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("F", (2, 2), 0.5), "floating-point"),
        (Image.new("I", (2, 2), 70000), "beyond 16 bits"),
        (Image.new("I", (2, 2), -1), "beyond 16 bits"),
    ],
)
def test_undefined_ranges_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        convert_pixels(image)


def test_impossible_arguments():
    with pytest.raises(ValueError, match=r"1 or 3 channels, not 4"):
        convert_pixels(Image.new("RGB", (2, 2)), 4)
    with pytest.raises(ValueError, match=r"unknown fit 'squeeze'.*stretch, crop, pad"):
        convert_pixels(Image.new("RGB", (2, 2)), fit="squeeze")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    upright = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        pixels = convert_image(image, channels=1, height=2, width=3, fit="stretch")
    assert pixels[:, :, 0].tolist() == upright.tolist()


def test_crop_takes_the_centre():
    image = Image.new("L", (60, 20), 0)
    image.paste(200, (20, 0, 40, 20))
    assert (convert_image(image, channels=1, height=10, width=10, fit="crop") == 200).all()
    tall = image.rotate(90, expand=True)
    assert (convert_image(tall, channels=1, height=10, width=10, fit="crop") == 200).all()


def test_pad_adds_black_bars():
    pixels = convert_image(Image.new("L", (40, 20), 200), channels=1, height=8, width=8, fit="pad")[:, :, 0]
    assert pixels[:, 0].tolist() == [0, 0, 200, 200, 200, 200, 0, 0]
    assert (pixels == pixels[:, :1]).all()


def test_resizing_is_antialiased():
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    pixels = convert_image(Image.fromarray(stripes), channels=1, height=8, width=8, fit="stretch")
    assert np.abs(pixels.astype(int) - 127).max() < 30


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20), st.sampled_from(["crop", "stretch"])
)
def test_one_colour_stays_one_colour(width, height, width_out, height_out, fit):
    image = Image.new("RGB", (width, height), (10, 120, 230))
    pixels = convert_image(image, channels=3, height=height_out, width=width_out, fit=fit)
    assert pixels.shape == (height_out, width_out, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 120, 230)).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_padding_keeps_the_whole_image(width, height, width_out, height_out):
    pixels = convert_image(
        Image.new("L", (width, height), 9), channels=1, height=height_out, width=width_out, fit="pad"
    )
    inside = pixels[:, :, 0] == 9
    assert inside.any()
    assert inside.all(axis=0).any() or inside.all(axis=1).any()
