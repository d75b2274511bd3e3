"""What travels between the processor and a card, a stand-in for one, in a step of training."""

import numpy as np
from standins.card import stand_in

from resnet_np import ResNet, Tensor, cross_entropy, optim

IMAGES, CLASSES = 4, 3


def test_labels_go_there_and_nothing_comes_back() -> None:
    model = ResNet(18, width=1 / 16, num_classes=CLASSES)
    labels = np.arange(IMAGES) % CLASSES
    images = np.random.default_rng(0).standard_normal((IMAGES, 32, 32, 3), np.float32)
    with stand_in() as cupy:
        optimizer = optim.Adam(model.to("gpu").parameters(), lr=0.01)
        x, record = Tensor(cupy.asarray(images)), cupy.standin.record
        for _ in range(3):
            record.reset()
            loss = cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        # Which images count, the labels, the classes' weights, and what the sum of losses is
        # multiplied by; a table of where gradients lie, if they moved.
        small, table = [IMAGES, labels.nbytes, 4 * CLASSES, 4], 4 * 8 * len(model.parameters())
        assert record.uploads in (small, [*small, table])
        assert record.downloads == []
        record.reset()
        loss.item()
        assert (record.uploads, record.downloads) == ([], [4])
        record.reset()
        model.to("gpu")  # where it is
        assert record.allocations == []
        model.to("cpu")
