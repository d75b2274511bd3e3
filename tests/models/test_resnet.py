"""The architectures: names and shapes, totals, stages, freezing, variants, errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_np import ResNet, Tensor, UserError, no_grad, resnet18, resnet50
from resnet_np.models import STAGES, resnet
from resnet_np.nn import Linear, Sequential, parameter_counts
from resnet_np.weights import names

NAMES = json.loads((Path(__file__).parents[1] / "golden" / "resnet_shapes.json").read_text())


def small(**config: Any) -> ResNet:
    return ResNet(**({"depth": 18, "width": 1 / 16, "num_classes": 5} | config))


def images(n: int = 2, size: int = 32) -> Tensor:
    rng = np.random.default_rng(0)
    return Tensor(rng.standard_normal((n, size, size, 3)).astype(np.float32))


def total(model: ResNet) -> int:
    trained, frozen, statistics = parameter_counts(model)
    return trained + frozen + statistics


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_names_and_shapes_are_those_of_torchvision(depth: int) -> None:
    """`golden/resnet_shapes.json` lists torchvision's, with axes in its own order."""
    model = ResNet(depth)
    ours = {
        name: list(array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)).shape)
        for name, array in model.state_dict().items()
    }
    assert ours == NAMES[f"resnet{depth}"]
    assert len(model.parameters()) == len([n for n in ours if "running" not in n])


def test_totals() -> None:
    model = resnet50()
    trained, frozen, statistics = parameter_counts(model)
    assert (trained, frozen, statistics) == (25_557_032, 0, 53_120)
    keras: dict[str, Any] = {"variant": "v1", "conv_bias": True}
    assert total(resnet50(**keras)) == 25_636_712
    assert total(resnet50(**keras, include_top=False)) == 23_587_712


def test_totals_of_a_new_head_on_a_frozen_trunk() -> None:
    model = resnet50(variant="v1", conv_bias=True, num_classes=13, head=(512,))
    model.freeze_before("fc")
    trained, frozen, statistics = parameter_counts(model)
    assert trained + frozen + statistics == 24_643_469
    assert trained == 1_055_757
    assert frozen + statistics == 23_587_712
    lines = model.summary((32, 32, 3)).splitlines()
    assert lines[-4].startswith("Total params: 24,643,469 ")
    assert lines[-3] == "Trainable params: 1,055,757"
    assert lines[-2].startswith("Non-trainable params: 23,587,712 ")


@pytest.mark.parametrize("depth", [18, 50])
def test_stages(depth: int) -> None:
    model = small(depth=depth).eval()
    x = images(2, 64)
    sizes = {"layer1": 16, "layer2": 16, "layer3": 8, "layer4": 4, "pool": 2}
    with no_grad():
        y = model(x)
        for stage in STAGES[1:]:
            between = model(x, stop=stage)
            if stage in sizes:
                assert between.shape[1:3] == (sizes[stage],) * 2
            np.testing.assert_array_equal(model(between, start=stage).data, y.data)
        assert model(x, stop="fc").shape == (2, model.features)
    assert y.shape == (2, 5)


@pytest.mark.parametrize("size", [32, 33, 47, 64])
def test_sizes_floor_as_in_torchvision(size: int) -> None:
    model = small(include_top=False, pooling=None).eval()
    side = size
    for _ in range(5):  # each halving: (side - 1) // 2 + 1
        side = (side - 1) // 2 + 1
    with no_grad():
        assert model(images(1, size)).shape == (1, side, side, 32)


def test_pooling() -> None:
    with no_grad():
        maps = small(include_top=False, pooling=None).eval()(images(2, 64)).data
        for pooling, rule in (("avg", np.mean), ("max", np.max)):
            pooled = small(include_top=False, pooling=pooling).eval()(images(2, 64)).data
            np.testing.assert_allclose(pooled, rule(maps, axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_variants_differ_in_the_stride_alone() -> None:
    a, b = small(depth=50), small(depth=50, variant="v1")
    for name, array in a.state_dict().items():
        np.testing.assert_array_equal(array, b.state_dict()[name])
    blocks = [dict(m.named_modules())["layer2.0.conv1"] for m in (a, b)]
    assert [block.stride for block in blocks] == [1, 2]  # type: ignore[attr-defined]
    blocks = [dict(m.named_modules())["layer2.0.conv2"] for m in (a, b)]
    assert [block.stride for block in blocks] == [2, 1]  # type: ignore[attr-defined]


def test_every_block_starts_as_its_shortcut() -> None:
    for depth, last in ((18, "bn2"), (50, "bn3")):
        gammas = {name: p.data for name, p in small(depth=depth).named_parameters() if "bn" in name}
        for name, gamma in gammas.items():
            if name.endswith("weight"):
                zero = name.startswith("layer") and f"{last}.weight" in name
                assert (gamma == (0 if zero else 1)).all(), name


def test_heads() -> None:
    names = [n for n, _ in small(head=(7, 6), dropout=0.5).named_parameters() if "fc" in n]
    assert names == [f"fc.{i}.{p}" for i in (0, 3, 6) for p in ("weight", "bias")]
    assert isinstance(small().fc, Linear)
    dropped = small(dropout=0.5).fc
    assert isinstance(dropped, Sequential)
    assert [type(m).__name__ for m in dropped] == ["Dropout", "Linear"]


def test_config_rebuilds_the_model_and_is_json() -> None:
    model = small(depth=50, variant="v1", head=(7,), seed=3, conv_bias=True)
    twin = ResNet(**json.loads(json.dumps(model.config)))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, twin.state_dict()[name])
    other = ResNet(**{**model.config, "seed": 4})
    assert not np.array_equal(other.conv1.weight.data, model.conv1.weight.data)


def test_freeze_before() -> None:
    model = small()
    assert model.frozen_prefix() == "stem"
    for stage in STAGES:
        model.freeze_before(stage)
        assert model.frozen_prefix() == stage
        trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
        behind = set(STAGES[STAGES.index(stage) :])
        assert trained == {"conv1" if s == "stem" else s for s in behind - {"pool"}} | (
            {"bn1"} if stage == "stem" else set()
        )
    model.freeze()
    assert model.frozen_prefix() is None


@pytest.mark.parametrize("stage", ["fc", "layer4", "layer2"])
def test_training_leaves_frozen_stages_bit_identical(stage: str) -> None:
    from resnet_np import cross_entropy, optim

    model = small()
    model.freeze_before(stage)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model.train()(images(4)), np.array([0, 1, 2, 3])).backward()
        optimizer.step()
    frozen = {"conv1", "bn1", *STAGES[: STAGES.index(stage)]}
    for name, array in model.state_dict().items():
        same = np.array_equal(array, before[name])
        assert same == (name.split(".")[0] in frozen), name


def test_freezing_by_stage_or_module() -> None:
    model = small().freeze("stem", "layer1.0")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert {name.rsplit(".", 2)[0] for name in frozen if "layer" in name} == {"layer1.0"}
    assert {name.split(".")[0] for name in frozen} == {"conv1", "bn1", "layer1"}
    assert model.frozen_prefix() == "layer1"
    assert model.unfreeze("stem").frozen_prefix() == "stem"


def test_a_frozen_trunk_records_no_tape() -> None:
    model = small()
    model.freeze_before("fc")
    assert model(images(), stop="fc").op is None
    assert model(images()).requires_grad


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"depth": 20}, "depth must be one of 18, 34, 50, 101, 152, not 20"),
        ({"depth": 18, "variant": "v1"}, 'variant must be "v1.5", or "v1" for depth 50 and more'),
        ({"depth": 50, "variant": "v2"}, "variant must be"),
        ({"pooling": None}, "pooling must be"),
        ({"pooling": "sum"}, "pooling must be"),
        ({"num_classes": 0}, r"num_classes and the sizes in head must be at least 1, not 0"),
        ({"head": (8, 0)}, r"must be at least 1, not 5 and \(8, 0\)"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1.0"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"width": 0.001}, "width must leave at least one channel"),
    ],
)
def test_wrong_arguments(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**config)


def test_wrong_images() -> None:
    model = small().eval()
    for x in (images(2, 31), Tensor(np.zeros((2, 32, 32, 1), "f4")), Tensor(np.zeros((32, 32, 3)))):
        with pytest.raises(UserError, match=r"images must be \[N, H, W, 3\] with H and W of at le"):
            model(x)
    model(images(1, 32))


def test_one_value_per_channel_in_training() -> None:
    with pytest.raises(UserError, match="one value per channel"):
        resnet18(width=1 / 16).train()(images(1, 32))
    small().train()(images(1, 33))


def test_unknown_stages() -> None:
    with pytest.raises(UserError, match=r"there is no stage 'layer5': the stages are stem, layer1"):
        small().freeze_before("layer5")
    for where in ({"start": "layer5"}, {"stop": "layer5"}):
        with pytest.raises(UserError, match="there is no stage 'layer5'"):
            small()(images(), **where)


def test_a_plain_array_is_refused_in_so_many_words() -> None:
    with pytest.raises(TypeError, match=r"conv2d: inputs must be Tensors.*wrap the array"):
        small()(images().data)


def test_the_table_of_blocks_is_that_of_the_weight_files() -> None:
    """It stands in both places: weights know no models, and a reader of either looks for it."""
    assert resnet.BLOCKS == names.BLOCKS
