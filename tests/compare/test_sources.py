"""Files of the real frameworks, read and run here: every source in every format that it writes."""

from dataclasses import replace

import pytest
import sources
from imported import noise
from sources import SOURCES

# Keras' own conversion to NumPy is older than NumPy's copy keyword; torch.compile imports what
# PyTorch itself calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
]

TOLERANCE = 1e-5
SIZE = 64
NARROW = 4  # benchmarks/acceptance/08_sources.py has all channels


@pytest.mark.parametrize("name", SOURCES)
def test_every_format(name: str) -> None:
    source = SOURCES[name](SIZE, NARROW)
    images = noise(2, SIZE)
    expected = source.run(images)
    for format in source.save:
        file = sources.read_back(source, format)
        assert not sources.wrong_facts(source, format, file), format
        assert sources.error(source, file, images, expected) <= TOLERANCE, format


SWAPPED = [
    ("bn1.running_mean", "bn1.bias"),
    ("layer1.0.conv1.weight", "layer1.0.conv2.weight"),
    ("layer2.0.bn2.weight", "layer2.0.downsample.1.weight"),
    ("layer4.1.bn1.running_var", "layer4.1.bn2.running_var"),
]


def test_two_swapped_tensors_are_noticed() -> None:
    """The bound can fail: any name taken for another shows in the logits."""
    source = SOURCES["torchvision ResNet-18"](SIZE, NARROW)
    images = noise(1, SIZE)
    expected = source.run(images)
    file = sources.read_back(source, "safetensors")
    for a, b in SWAPPED:
        arrays = file.arrays | {a: file.arrays[b], b: file.arrays[a]}
        wrong = replace(file, arrays=arrays)
        assert sources.error(source, wrong, images, expected) > 100 * TOLERANCE, (a, b)
