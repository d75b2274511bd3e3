"""The name tables against the published names of ResNet-50, and against counts for all depths."""

import pytest
from tiny import published_names

from resnet_np.weights import names


@pytest.mark.parametrize("column", ["keras", "keras1"])
def test_resnet50_is_as_published(column: str) -> None:
    published = {}
    for row in published_names():
        published[row[f"{column}_conv"]] = row["tv_conv"]
        if row["tv_bn"] != "-":
            published[row[f"{column}_bn"]] = row["tv_bn"]
    rule = names.keras_names(50) if column == "keras" else names.keras1_names()
    assert rule == published
    assert len(rule) == 53 + 53 + 1


def test_hugging_face_as_published() -> None:
    table = names.hugging_face_names()
    assert len(set(table.values())) == len(table)
    assert table["resnet.embedder.embedder.normalization"] == "bn1"
    assert table["resnet.encoder.stages.3.layers.0.shortcut.convolution"] == "layer4.0.downsample.0"
    assert (
        table["resnet.encoder.stages.3.layers.0.shortcut.normalization"] == "layer4.0.downsample.1"
    )
    assert table["resnet.encoder.stages.2.layers.35.layer.1.normalization"] == "layer3.35.bn2"
    own = set(table.values())
    for row in published_names():
        assert {row["tv_conv"], row["tv_bn"]} - {"-"} <= own


@pytest.mark.parametrize(("depth", "convs"), [(50, 53), (101, 104), (152, 155)])
def test_depths(depth: int, convs: int) -> None:
    table = names.keras_names(depth)
    modules = list(table.values())
    assert len(set(modules)) == len(modules) == 2 * convs + 1
    assert [names.kind(m) for m in modules].count("conv") == convs
    # depth = convolutions in the longest path, and the head: all but the four shortcuts
    assert convs - 4 + 1 == depth
    assert names.find_depth([f"{m}.weight" for m in modules]) == depth


def test_smaller_tables_are_part_of_larger() -> None:
    tables = [names.keras_names(d).items() for d in names.BOTTLENECK_DEPTHS]
    assert tables[0] <= tables[1] <= tables[2]


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
def test_find_depth_of_basic_blocks(depth: int, blocks: tuple[int, ...]) -> None:
    found = [f"layer{s}.{b}.conv2.weight" for s, n in enumerate(blocks, 1) for b in range(n)]
    assert names.find_depth(found) == depth
    assert names.find_depth(found[1:]) is None  # the first block is missing
    assert names.find_depth(found[:-1]) is None
    assert names.find_depth([*found, "layer1." + "9" * 5000 + ".conv1"]) == depth


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("conv1", "conv"),
        ("conv2", None),
        ("layer1.0.conv3", "conv"),
        ("layer1.0.conv4", None),
        ("layer5.0.conv1", None),
        ("layer3.22.downsample.0", "conv"),
        ("layer3.22.downsample.1", "bn"),
        ("layer1.0.bn2", "bn"),
        ("bn2", None),
        ("fc", "fc"),
        ("fc.3", "fc"),
        ("linear", None),
        ("module.fc", None),
        ("layer1.00.conv1", None),
        ("layer1." + "9" * 5000 + ".conv1", None),
    ],
)
def test_kind(module: str, kind: str | None) -> None:
    assert names.kind(module) == kind


def test_norm_after() -> None:
    assert names.norm_after("conv1") == "bn1"
    assert names.norm_after("layer2.0.conv3") == "layer2.0.bn3"
    assert names.norm_after("layer2.0.downsample.0") == "layer2.0.downsample.1"


def test_the_layers_of_a_head_are_in_the_order_of_their_numbers() -> None:
    tensors = [f"fc.{i}.{leaf}" for i in (12, 9, 0, 3, 6) for leaf in ("bias", "weight")]
    layers = names.head_layers(["conv1.weight", "bn1.weight", *tensors])
    assert layers == ["fc.0", "fc.3", "fc.6", "fc.9", "fc.12"]
    assert names.head_layers(["fc.bias", "fc.weight"]) == ["fc"]
    assert names.head_layers(["conv1.weight"]) == []
