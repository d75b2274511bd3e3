import numpy as np

from resnet_np.data.digits import enlarge, load_digits_images


def test_digits_are_rgb_bytes_with_their_labels():
    images, labels, classes = load_digits_images(32)
    assert images.shape == (1797, 32, 32, 3) and images.dtype == np.uint8
    assert (images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all()
    assert labels.shape == (1797,) and labels.dtype == np.int64
    assert classes == tuple("0123456789")
    assert np.bincount(labels).min() > 170


def test_enlarge_maps_the_range_and_keeps_left_and_top():
    counts = np.zeros((1, 8, 8))
    counts[0, :, 0] = 16
    large = enlarge(counts, 32)
    assert (large[0, :, :2] == 255).all()
    assert (large[0, :, 6:] == 0).all()


def test_enlarge_at_the_own_size_only_scales():
    counts = np.arange(64).reshape(1, 8, 8) % 17
    assert (enlarge(counts, 8)[0, ..., 0] == np.rint(counts[0] * 255 / 16)).all()
