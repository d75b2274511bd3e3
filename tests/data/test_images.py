"""An image file becomes the square of bytes that the contract describes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from resnet_np.data.images import decode, fit, load_image, views
from resnet_np.errors import UserError
from resnet_np.weights.contract import KERAS_CAFFE, PLAIN, TORCHVISION


def noise(w: int, h: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_by_hand_without_resizing_the_centre_is_cut_out():
    # resize 4 for size 2: the 6 x 4 image keeps its size, columns 2..3 and rows 1..2 remain.
    contract = replace(TORCHVISION, resize=448, crop=224)
    image = noise(6, 4)
    assert np.array_equal(fit(image, contract, 2), np.asarray(image)[1:3, 2:4])


def test_equal_resize_and_crop_keep_a_square_image_as_it_is(tmp_path):
    image = noise(32, 32)
    image.save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png", PLAIN, 32), np.asarray(image))


@pytest.mark.parametrize("size", [(50, 31), (31, 50), (200, 33), (40, 40), (7, 5)])
@pytest.mark.parametrize("antialias", [True, False])
def test_any_shape_becomes_a_square(size, antialias):
    square = fit(noise(*size), replace(TORCHVISION, antialias=antialias), 24)
    assert square.shape == (24, 24, 3)
    assert square.dtype == np.uint8


def test_without_antialias_a_point_is_sampled():
    # A black half and a white half, shrunk by four: a point lies on one side of the edge, the
    # average over a neighbourhood reaches across it.
    halves = np.zeros((40, 40, 3), np.uint8)
    halves[:, 20:] = 255
    image = Image.fromarray(halves)
    contract = replace(PLAIN, antialias=False)
    sharp = fit(image, contract, 10)[5, :, 0]
    assert list(sharp) == [0] * 5 + [255] * 5
    assert set(fit(image, PLAIN, 10)[5, :, 0]) - {0, 255}


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    noise(9, 8, mode).save(tmp_path / f"a.{suffix}")
    image = decode(tmp_path / f"a.{suffix}")
    assert (image.mode, image.size) == ("RGB", (9, 8))


def test_sixteen_bit_grey_is_scaled_to_bytes(tmp_path):
    grey = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.asarray(decode(tmp_path / "a.png"))[..., 0].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize(
    ("values", "bytes_"),
    [
        ([[0, 7], [200, 255]], [[0, 7], [200, 255]]),
        ([[0, 256], [25700, 65535]], [[0, 0], [100, 255]]),
    ],
)
def test_mode_i_is_scaled_where_it_holds_more_than_bytes(tmp_path, values, bytes_):
    Image.fromarray(np.array(values, np.int32)).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "I"
    assert np.asarray(decode(tmp_path / "a.tif"))[..., 0].tolist() == bytes_


def test_a_pgm_of_16_bits_is_not_white(tmp_path):
    header = b"P5 2 1 65535\n"
    (tmp_path / "a.pgm").write_bytes(header + (257 * 100).to_bytes(2) + (257 * 200).to_bytes(2))
    assert np.asarray(decode(tmp_path / "a.pgm"))[..., 0].tolist() == [[100, 200]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_known_range_are_refused(tmp_path, kind):
    Image.fromarray(np.array([[0, 70000]], kind)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: its pixels .*; save it with 8 or 16 bits"):
        decode(tmp_path / "a.tif")


def test_transparency_is_left_away(tmp_path):
    Image.fromarray(np.array([[[9, 8, 7, 0]]], np.uint8)).save(tmp_path / "a.png")
    assert np.asarray(decode(tmp_path / "a.png")).tolist() == [[[9, 8, 7]]]


def test_a_palette_with_transparency_gives_no_warning(tmp_path):
    noise(8, 8, "P").save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    assert decode(tmp_path / "a.png").mode == "RGB"


def test_a_turned_photograph_is_set_upright(tmp_path):
    image = noise(8, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to show
    image.save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(decode(tmp_path / "a.png"))
    assert np.array_equal(upright, np.rot90(np.asarray(image), k=-1))


@pytest.mark.parametrize("tags", [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\0\x05", b"nonsense"])
def test_broken_tags_leave_the_image_as_it_is(tmp_path, tags):
    image = noise(8, 4)
    image.save(tmp_path / "a.png", exif=b"Exif\0\0" + tags)
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.asarray(image))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("odd"), IndexError("odd"), RuntimeError("odd")]
)
def test_any_failure_of_the_decoder_is_a_broken_image(tmp_path, monkeypatch, error):
    def fail(image):
        raise error

    noise(8, 4).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImageFile, "load", fail)
    with pytest.raises(UserError, match=r"a\.png: broken image \(odd\)"):
        decode(tmp_path / "a.png")


def test_what_is_no_file_is_no_broken_image(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        decode(tmp_path)


def test_broken_files_are_named(tmp_path):
    noise(64, 64).save(tmp_path / "whole.jpg", quality=95)
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("short.jpg", "text.jpg", "empty.png"):
        with pytest.raises(UserError, match=rf"{name}: broken image \(.*\); repair or remove it"):
            decode(tmp_path / name)
    with pytest.raises(UserError, match=r"nothing\.jpg: no such file"):
        decode(tmp_path / "nothing.jpg")


def test_stretch_takes_the_whole_image():
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 200
    square = fit(Image.fromarray(halves), KERAS_CAFFE, 10)
    assert square[0, :, 0].tolist() == [0] * 5 + [200] * 5


@pytest.mark.parametrize(("corner", "left"), [("nearest", 2), ("down", 1)])
def test_the_corner_of_the_crop(corner, left):
    # 7 columns, 4 are wanted: one and a half are left over on each side.
    contract = replace(TORCHVISION, resize=224, corner=corner)
    image = noise(7, 4)
    assert np.array_equal(fit(image, contract, 4), np.asarray(image)[:, left : left + 4])


@pytest.mark.parametrize(
    ("interpolation", "expected"),
    [
        ("nearest", [10, 60, 200, 110]),  # the first of each two
        ("bilinear", [15, 80, 155, 110]),  # the mean of each two
        # 19/32 of the two neighbours minus 3/32 of the next two; the edge goes on
        ("bicubic", [11.25, 74.375, 164.375, 110]),
    ],
)
def test_by_hand_without_antialias(interpolation, expected):
    row = np.array([10, 20, 60, 100, 200, 110, 110, 110], np.uint8)
    pixels = np.broadcast_to(row[None, :, None], (8, 8, 3))
    contract = replace(PLAIN, antialias=False, interpolation=interpolation)
    for image in (pixels, pixels.swapaxes(0, 1)):
        small = fit(Image.fromarray(np.ascontiguousarray(image)), contract, 4)
        line = small[0] if image is pixels else small[:, 0]
        assert line[:, 2].tolist() == np.round(expected).tolist()


def test_ten_crops_are_the_corners_and_the_centre():
    """32 of 36 x 45: a contract that scales the shorter side to 36."""
    pixels = np.random.default_rng(0).integers(0, 256, (36, 45, 3), dtype=np.uint8)
    contract = replace(PLAIN, resize=36, crop=32)
    found = views(Image.fromarray(pixels), contract, 32, "ten")
    places = [(0, 0), (0, 13), (4, 0), (4, 13), (2, 6)]
    for i, (top, left) in enumerate(places):
        cut = pixels[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(found[i], cut)
        np.testing.assert_array_equal(found[5 + i], cut[:, ::-1])
    centre = fit(Image.fromarray(pixels), contract, 32)
    mirror = views(Image.fromarray(pixels), contract, 32, "mirror")
    np.testing.assert_array_equal(mirror, [centre, centre[:, ::-1]])
    np.testing.assert_array_equal(views(Image.fromarray(pixels), contract, 32, "none"), [centre])
    with pytest.raises(UserError, match="--tta ten: these weights expect the whole image, stretch"):
        views(Image.fromarray(pixels), replace(contract, fit="stretch"), 32, "ten")
