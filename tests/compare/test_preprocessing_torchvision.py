"""An image is resized, cropped and normalised as torchvision does it."""

import numpy as np
import pytest
from PIL import Image

from resnet_np.data.images import fit
from resnet_np.weights import TORCHVISION

torch = pytest.importorskip("torch")
from torchvision_shim import torchvision  # noqa: E402


@pytest.mark.parametrize("shape", [(300, 400), (401, 299), (1000, 257), (100, 100), (224, 225)])
@pytest.mark.parametrize("size", [224, 64])
def test_the_same_bytes_and_the_same_input(shape, size):
    transforms = torchvision.transforms
    h, w = shape
    rng = np.random.default_rng(h)
    small = Image.fromarray(rng.integers(0, 256, (h // 7, w // 7, 3), dtype=np.uint8))
    image = small.resize((w, h), Image.Resampling.BICUBIC)
    crop = transforms.Compose(
        [transforms.Resize(TORCHVISION.resize_for(size)), transforms.CenterCrop(size)]
    )
    ours, theirs = fit(image, TORCHVISION, size), crop(image)
    assert np.array_equal(ours, np.asarray(theirs))
    prepare = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(TORCHVISION.mean, TORCHVISION.std)]
    )
    expected = prepare(theirs).permute(1, 2, 0).numpy()  # [C, H, W] -> [H, W, C]
    np.testing.assert_allclose(TORCHVISION.normalise(ours[None])[0], expected, atol=1e-6)
