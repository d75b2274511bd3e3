"""What travels between the processor and a card, a stand-in for one, in a step of training."""

import numpy as np
from standins.card import stand_in

from resnet_np import ResNet, Tensor, cross_entropy, optim

IMAGES, CLASSES = 4, 3


def test_labels_go_there_and_no_array_comes_back() -> None:
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
        # The labels, and what their mean divides by; a table of where gradients lie, if they moved.
        table = 4 * 8 * len(model.parameters())
        assert record.uploads[:2] == [labels.nbytes, 4]
        assert record.uploads[2:] in ([], [table])
        assert record.downloads == [1, 4]  # whether all labels are classes, and their number
        record.reset()
        loss.item()
        assert (record.uploads, record.downloads) == ([], [4])
        record.reset()
        model.to("gpu")  # where it is
        assert record.allocations == []
        model.to("cpu")
