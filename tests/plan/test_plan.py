"""The inference plan: the same results as layer by layer, never of yesterday's weights."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_np import ResNet, Tensor, UserError, cross_entropy, no_grad, optim
from resnet_np.autograd import avg_pool2d, conv2d, fixed_batch_norm, linear, relu, upsample_nearest
from resnet_np.kernels import fused, is_compiled
from resnet_np.models import STAGES
from resnet_np.nn import AvgPool2d, Conv2d, Identity, Module, Sequential, Upsample
from resnet_np.plan import Part, Plan, PlanCache
from resnet_np.plan.buffers import Workspace
from resnet_np.plan.steps import Convolution, is_placed
from resnet_np.plan.trace import trace
from resnet_np.weights import TORCHVISION


def network(depth: int = 18, seed: int = 0, **config: Any) -> ResNet:
    """A narrow network whose batch norms and biases all do something, in evaluation mode."""
    model = ResNet(depth, **({"width": 1 / 8, "num_classes": 5, "seed": seed} | config))
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and array.ndim == 1):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif array.ndim == 1:
            array[...] = 0.2 * rng.standard_normal(array.shape)
    return model.eval()


def images(n: int = 2, size: int = 32, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return Tensor(rng.standard_normal((n, size, size, 3)).astype(np.float32))


def layer_by_layer(
    model: ResNet, x: Tensor, start: str = "stem", stop: str | None = None
) -> np.ndarray:
    last = len(STAGES) if stop is None else STAGES.index(stop)
    with no_grad():
        for stage in STAGES[STAGES.index(start) : last]:
            x = getattr(model, stage)(x)
    return x.data


def by_plan(model: ResNet, x: Tensor, **where: Any) -> np.ndarray:
    with no_grad():
        return model(x, **where).data


def parts_of(model: ResNet) -> list[Part]:
    return [model.part(stage) for stage in STAGES]


def plan_of(model: ResNet, x: Tensor) -> Plan:
    """The plan of the whole network."""
    with no_grad():
        planned, found = model.plans.find(parts_of(model), x)
    assert planned == len(STAGES) and found is not None
    return found


def assert_close(y: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert y.shape == expected.shape and y.dtype == expected.dtype
    assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max()


# --- the same results ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 45, 64])
@pytest.mark.parametrize(
    "config",
    [
        {"depth": 18},
        {"depth": 18, "width": 3 / 64, "head": (7,), "dropout": 0.5, "pooling": "max"},
        {"depth": 50},
        {"depth": 50, "variant": "v1", "conv_bias": True, "bn_eps": 1e-3},
        {"depth": 50, "include_top": False, "pooling": None},
    ],
)
def test_a_plan_computes_what_the_layers_do(config: dict[str, Any], size: int) -> None:
    model, x = network(**config), images(3, size)
    assert_close(by_plan(model, x), layer_by_layer(model, x))
    plan_of(model, x)


def test_wide_enough_for_whole_vectors() -> None:
    model, x = network(width=0.5), images(2, 70)
    assert_close(by_plan(model, x), layer_by_layer(model, x))


def test_in_double_precision_folding_changes_next_to_nothing() -> None:
    model = network(50, conv_bias=True).to(np.float64)
    x = Tensor(images(2, 45).data.astype(np.float64))
    assert_close(by_plan(model, x), layer_by_layer(model, x), 1e-13)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_any_part_of_the_network(pooling: str) -> None:
    model, x = network(pooling=pooling), images(2, 40)
    whole = by_plan(model, x)
    for stage in STAGES[1:]:
        between = by_plan(model, x, stop=stage)
        assert_close(between, layer_by_layer(model, x, stop=stage))
        assert np.array_equal(by_plan(model, Tensor(between), start=stage), whole)
    inner = by_plan(model, Tensor(by_plan(model, x, stop="layer2")), start="layer2", stop="pool")
    assert_close(inner, layer_by_layer(model, x, stop="pool"))


def test_nothing_to_do() -> None:
    model, x = network(include_top=False, pooling=None), images()
    features = Tensor(by_plan(model, x))
    with no_grad():
        assert model(features, start="pool") is features
        assert model(x, stop="stem") is x


def test_inputs_in_any_order_in_memory() -> None:
    model, x = network(), images(4).data
    expected = by_plan(model, Tensor(np.ascontiguousarray(x[::2, :, ::-1])))
    assert np.array_equal(by_plan(model, Tensor(x[::2, :, ::-1])), expected)


def test_not_a_number_is_passed_on() -> None:
    model, x = network(), images(2)
    x.data[1, 3, 3, 0] = np.nan
    y = by_plan(model, x)
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"depth": 50}, {"depth": 18, "pooling": "max"}])
def test_an_images_result_does_not_depend_on_its_company(config: dict[str, Any]) -> None:
    model, x = network(width=1 / 4, **config), images(9, 40).data
    whole = by_plan(model, Tensor(x))
    for chosen in ([0], [8], [3, 1], [5, 5, 2, 7], [8, 7, 6, 5, 4, 3, 2, 1, 0]):
        assert np.array_equal(by_plan(model, Tensor(x[chosen])), whole[chosen])


def test_a_large_batch_runs_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(), images(7)
    whole = by_plan(model, x)
    for most, sizes in ((1, [1] * 7), (2, [1, 2, 2, 2]), (3, [2, 2, 3]), (7, [7])):
        of_one = 4 * sum(plan_of(model, x).layout.sizes)
        monkeypatch.setattr(fused, "WORKSPACE_BYTES", most * of_one)
        chunks = plan_of(model, x)._chunks(x.data)
        assert [chunk.stop - chunk.start for chunk in chunks] == sizes
        assert np.array_equal(by_plan(model, x), whole)


def test_no_images() -> None:
    assert by_plan(network(), images(0)).shape == (0, 5)


def test_a_result_belongs_to_the_caller() -> None:
    model = network()
    for stop in ("layer1", "pool", "fc", None):
        first = by_plan(model, images(seed=1), stop=stop)
        kept = first.copy()
        by_plan(model, images(seed=2), stop=stop)
        assert np.array_equal(first, kept)
        first[...] = 0
        assert np.array_equal(by_plan(model, images(seed=1), stop=stop), kept)


def test_inputs_are_left_alone() -> None:
    model, x = network(50), images()
    for stage in STAGES[1:5]:
        between = by_plan(model, x, stop=stage)
        before = between.copy()
        by_plan(model, Tensor(between), start=stage)
        assert np.array_equal(between, before)


def test_threads() -> None:
    model = network()
    batches = [images(n, size, seed=n) for n in range(1, 7) for size in (32, 48)]
    expected = [by_plan(copy.deepcopy(model), x) for x in batches]
    wrong: list[int] = []

    def predict(offset: int) -> None:
        for k in range(3 * len(batches)):
            i = (k + offset) % len(batches)
            if not np.array_equal(by_plan(model, batches[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=predict, args=(5 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 <= len(plan_of(model, batches[0]).free) <= 3


# --- never stale ---------------------------------------------------------------------------------


def load_other(model: ResNet) -> None:
    model.load_state_dict(network(seed=1).state_dict())


def replace_data(model: ResNet) -> None:
    model.layer2[0].conv1.weight.data = model.layer2[0].conv1.weight.data * 2  # type: ignore


def replace_layer(model: ResNet) -> None:
    conv = Conv2d(32, 32, 3, padding=1, rng=np.random.default_rng(3))
    model.layer3[1].conv1 = conv  # type: ignore[attr-defined]


def step(model: ResNet) -> None:
    optimizer = optim.SGD(model.parameters(), 0.1)
    cross_entropy(model(images()), np.array([1, 2])).backward()
    optimizer.step()


CHANGES: dict[str, Callable[[ResNet], Any]] = {
    "statistics in place": lambda m: m.bn1.running_mean.__iadd__(0.5),
    "variances in place": lambda m: m.layer4[1].bn2.running_var.__imul__(2),
    "gamma in place": lambda m: m.bn1.weight.data.__imul__(2),
    "weights in place": lambda m: (
        m.conv1.weight.data.__imul__(2),
        setattr(m.conv1.weight, "version", 7),
    ),
    "weights": replace_data,
    "bias of the head": lambda m: m.fc.bias.data.__iadd__(1),
    "epsilon": lambda m: setattr(m.bn1, "eps", 0.5),
    "padding": lambda m: setattr(m.layer1[0].conv1, "padding", "same"),
    "stride": lambda m: [setattr(m.maxpool, "stride", 1)],
    "a layer": replace_layer,
    "other weights": load_other,
    "an optimizer's step": step,
    "batch statistics": lambda m: (m.train()(images(3, seed=5)), m.eval()),
    "another statistics array": lambda m: setattr(m.bn1, "running_mean", m.bn1.running_mean + 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change: str) -> None:
    model, x = network(conv_bias=True), images()
    if change == "other weights":
        model = network()
    before = by_plan(model, x)
    CHANGES[change](model)
    after = by_plan(model, x)
    assert_close(after, layer_by_layer(model, x))
    if change != "padding":  # the same in other words
        assert not np.array_equal(after, before)


def test_only_what_changed_is_prepared_anew() -> None:
    model, x = network(), images()
    found = plan_of(model, x)
    before = [step.prepared for step in found.steps if isinstance(step, Convolution)]
    model.layer4[1].bn2.running_var *= 2  # type: ignore[attr-defined]
    assert plan_of(model, x) is found
    after = [step.prepared for step in found.steps if isinstance(step, Convolution)]
    changed = [a is not b for a, b in zip(before, after, strict=True)]
    assert sum(changed) == 1 and changed[-2]


def test_plans_share_prepared_weights() -> None:
    model, x = network(), images()
    by_plan(model, x)
    by_plan(model, x, stop="pool")
    model.freeze_before("layer3")
    model.train()(x)
    count = sum(isinstance(module, Conv2d) for _, module in model.named_modules()) + 1
    assert len(model.plans._prepared) == count


def test_few_plans_are_kept() -> None:
    model = network()
    for size in range(32, 42):
        by_plan(model, images(1, size))
    assert len(model.plans._entries) == 4


def test_another_precision() -> None:
    model, x = network(), images()
    by_plan(model, x)
    model.to(np.float64)
    with pytest.raises(TypeError, match="share one dtype"):
        by_plan(model, x)
    x = Tensor(x.data.astype(np.float64))
    assert_close(by_plan(model, x), layer_by_layer(model, x), 1e-13)


def packed_away(model: ResNet) -> list[str]:
    """The parameters whose numbers lie in the plan alone."""
    return [name for name, p in model.named_parameters() if p._array is None]


def test_packed_weights_take_the_place_of_the_parameters() -> None:
    model, x = network(50, width=1 / 4), images(2, 64)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    y = by_plan(model, x)
    steps = zip(plan_of(model, x).names, plan_of(model, x).steps, strict=True)
    expected = {
        f"{name}.weight"
        for name, step in steps
        if isinstance(step, Convolution) and step.prepared and step.prepared.conv.unpack
    }
    assert set(packed_away(model)) == expected
    assert bool(expected) == is_compiled(x.data)
    assert np.array_equal(by_plan(model, x), y)
    assert set(packed_away(model)) == expected  # still
    for name, array in model.state_dict().items():
        assert array.tobytes() == before[name].tobytes()
    assert packed_away(model) == []
    assert np.array_equal(by_plan(model, x), y)


def test_weights_that_somebody_holds_stay_where_they_are() -> None:
    model, x = network(), images()
    held = model.state_dict()
    before = by_plan(model, x)
    assert packed_away(model) == []
    for name, array in model.state_dict().items():
        assert array is held[name]
    held["fc.weight"][...] *= 2
    model.fc.weight.version += 1  # type: ignore[union-attr]
    assert not np.array_equal(by_plan(model, x), before)


def test_training_goes_on_after_a_prediction() -> None:
    model, twin, x = network(), network(), images()
    for each in (model, twin):
        optimizer = optim.SGD(each.parameters(), 0.1, 0.9)
        for _ in range(3):
            if each is model:
                by_plan(model, x)
            cross_entropy(each(x), np.array([1, 2])).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, array in twin.state_dict().items():
        assert np.array_equal(array, model.state_dict()[name])


def test_copies_have_plans_of_their_own() -> None:
    model, x = network(), images()
    y, names = by_plan(model, x), list(model.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state_dict()) == names
        assert np.array_equal(by_plan(twin, x), y)
        twin.bn1.running_mean += 1
        assert not np.array_equal(by_plan(twin, x), y)
        assert np.array_equal(by_plan(model, x), y)


# --- when there is a plan ------------------------------------------------------------------------


def planned(model: ResNet, x: Tensor) -> int:
    return model.plans.find(parts_of(model), x)[0]


def test_where_gradients_are_wanted_there_is_none() -> None:
    model, x = network(), images()
    assert planned(model, x) == 0
    assert model(x).requires_grad
    model.freeze()
    assert planned(model, x) == len(STAGES)
    assert not model(x).requires_grad
    x.requires_grad = True
    assert planned(model, x) == 0
    model(x).sum().backward()
    assert x.grad is not None
    with no_grad():
        assert planned(model, x) == len(STAGES)
    model.fc.weight.requires_grad = True  # type: ignore[union-attr]
    assert planned(model, images()) == STAGES.index("fc")


@pytest.mark.parametrize("stage", STAGES)
def test_in_training_the_frozen_stages_have_one(stage: str) -> None:
    model, x, labels = network(dropout=0.3), images(4, 64), np.array([0, 1, 2, 3])
    model.freeze_before(stage)
    twin = copy.deepcopy(model)
    for module in (model.train(), twin.train()):
        assert planned(module, x) == STAGES.index(stage)
    between = Tensor(layer_by_layer(twin, x, stop=stage)) if stage != "stem" else x
    cross_entropy(model(x), labels).backward()
    cross_entropy(twin(between, start=stage), labels).backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None) == (not p.requires_grad)
        if p.grad is not None and q.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad, rtol=1e-3, atol=1e-4)
    for name, statistics in model.named_buffers():
        np.testing.assert_allclose(statistics, dict(twin.named_buffers())[name], 1e-4, 1e-5)


def test_a_step_of_the_head_leaves_the_plan_of_the_trunk() -> None:
    model, x = network(), images()
    model.freeze_before("fc")
    optimizer = optim.SGD(model.parameters(), 0.1)
    plans = []
    for _ in range(2):
        cross_entropy(model.train()(x), np.array([0, 1])).backward()
        optimizer.step()
        plans.append(model.plans.find(parts_of(model), x)[1])
    assert plans[0] is plans[1] is not None


def test_without_evaluation_mode_there_is_none() -> None:
    model, x = network().train(), images(4)
    before = model.bn1.running_mean.copy()
    with no_grad():
        assert planned(model, x) == 0
        model(x)
    assert not np.array_equal(model.bn1.running_mean, before)
    model.eval()
    model.layer2[1].bn1.train()  # type: ignore[attr-defined]
    with no_grad():
        assert planned(model, x) == STAGES.index("layer2")


def test_a_hook_sees_its_layer() -> None:
    model, x = network(), images()
    by_plan(model, x)
    seen: list[tuple[int, ...]] = []
    model.layer2[0].conv2.hook = lambda x, y: seen.append(y.shape)  # type: ignore[attr-defined]
    for _ in range(2):
        y = by_plan(model, x)
    assert seen == [(2, 4, 4, 16)] * 2
    assert_close(y, layer_by_layer(model, x))
    model.layer2[0].conv2.hook = None  # type: ignore[attr-defined]
    plan_of(model, x)


class Clock(Module):
    """A module of somebody else's, which is not the same twice."""

    count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * float(self.count)


def test_modules_of_other_people_run_as_they_are() -> None:
    model, x = network(), images()
    model.fc = Sequential(Identity(), model.fc, Clock()).eval()
    first = by_plan(model, x)
    assert_close(by_plan(model, x), 2 * first)
    with no_grad():
        assert planned(model, x) == STAGES.index("fc")
    model.pool.forward = lambda x: x.sum(axis=(1, 2))  # type: ignore[method-assign, assignment]
    by_plan(model, x)
    with no_grad():
        assert planned(model, x) == STAGES.index("pool")


def test_every_batch_is_checked() -> None:
    model = network()
    model.contract = TORCHVISION
    by_plan(model, images())
    with pytest.raises(UserError, match="prepared some other way"):
        by_plan(model, Tensor(images().data * 100 + 100))
    for x in (images(2, 31), Tensor(np.zeros((2, 32, 32, 1), "f4"))):
        with pytest.raises(UserError, match=r"images must be \[N, H, W, 3\]"):
            by_plan(model, x)
    model.contract = None
    with pytest.raises(TypeError, match="wrap the array"):
        by_plan(model, images().data)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="with the same C"):
        by_plan(model, images(), start="layer2")


# --- patterns and buffers ------------------------------------------------------------------------


def made(function: Callable[[Tensor], Tensor], x: np.ndarray) -> Plan:
    """The plan of any function, which is compared with it."""
    found = Plan(trace(function, x[:1]), {})
    found.refresh({})
    with no_grad():
        expected = function(Tensor(x)).data
    for _ in range(2):
        assert_close(found(x), expected)
    return found


def kinds(found: Plan) -> list[str]:
    return [type(step).__name__ for step in found.steps]


RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 6, 6, 8)).astype(np.float32)
LARGE = RNG.standard_normal((2, 60, 60, 8)).astype(np.float32)  # for several blocks of pixels
W = Tensor(RNG.standard_normal((3, 3, 8, 8)).astype(np.float32) / 8)
FLAT_W = Tensor(W.data[0, 0])
GAMMA, BETA = (Tensor(RNG.uniform(0.5, 1, 8).astype(np.float32)) for _ in range(2))
MEAN, VAR = (RNG.uniform(0.5, 1, 8).astype(np.float32) for _ in range(2))


def conv(x: Tensor) -> Tensor:
    return conv2d(x, W, BETA, padding=1)


def norm(x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    return fixed_batch_norm(x, GAMMA, BETA, MEAN, VAR, 1e-5, residual, relu)


def test_what_becomes_one_step() -> None:
    assert kinds(made(conv, X)) == ["Convolution"]
    assert kinds(made(lambda x: norm(conv(x)), X)) == ["Convolution"]
    assert kinds(made(lambda x: relu(norm(conv(x))), X)) == ["Convolution"]
    assert kinds(made(lambda x: relu(relu(conv(x))), X)) == ["Convolution"]
    assert kinds(made(lambda x: norm(conv(relu(x)), x, True), X)) == ["Other", "Convolution"]
    assert kinds(made(lambda x: relu(linear(x, FLAT_W, BETA)), X[:, 0, 0])) == ["Convolution"]


def test_what_does_not() -> None:
    assert kinds(made(lambda x: norm(relu(conv(x))), X)) == ["Convolution", "Other"]
    assert kinds(made(lambda x: norm(norm(conv(x))), X)) == ["Convolution", "Other"]
    assert kinds(made(lambda x: norm(x), X)) == ["Other"]

    def used_twice(x: Tensor) -> Tensor:
        y = conv(x)
        return norm(y, y)

    assert kinds(made(used_twice, X)) == ["Convolution", "Other"]
    computed = made(lambda x: conv2d(x, W * W, padding=1), X)  # weights that are a result, too
    assert kinds(computed) == ["Other", "Other"]


def test_a_shortcut_round_one_convolution() -> None:
    """The result may not lie over the shortcut, which is also what the convolution reads."""

    def block(x: Tensor) -> Tensor:
        x = relu(conv(x))
        for _ in range(3):
            x = norm(conv(x), x, relu=True)
        return x

    def in_other_words(x: Tensor) -> Tensor:
        x = relu(conv(x))
        return conv(norm(conv(x.reshape(x.shape)), x))

    for function in (block, in_other_words):
        made(function, LARGE)


def test_a_view_keeps_its_memory() -> None:
    """What an op passes on in another shape is not written over while somebody reads it."""

    def function(x: Tensor) -> Tensor:
        x = relu(conv(x))
        view = x.reshape(len(x), 36, 8)
        for _ in range(3):
            x = relu(conv(x))
        return x.reshape(len(x), 36, 8) + view

    made(function, X)


def test_ops_without_a_pattern() -> None:
    assert kinds(made(lambda x: upsample_nearest(conv(avg_pool2d(x, 2)), 2).max(axis=2), X)) == [
        "Other", "Convolution", "Other", "Other",
    ]  # fmt: skip
    layers = Sequential(AvgPool2d(2), Upsample(2), AvgPool2d(3, 1))
    cache = PlanCache()
    parts = [Part(layers, {"layers": layers.eval()})]
    with no_grad():
        assert_close(cache.run(parts, Tensor(X)).data, layers(Tensor(X)).data)


def test_no_two_results_lie_in_one_place_at_a_time() -> None:
    found = plan_of(network(50), images())
    places = found.layout.places
    assert 3 <= len(found.layout.sizes) <= 5
    holds: dict[int, int] = {}  # buffer -> the value that lies in it
    for step in found.steps:
        for value in step.inputs:
            assert value not in places or holds[places[value]] == value
        if step.output in places:
            assert is_placed(step)
            holds[places[step.output]] = step.output


def test_timings() -> None:
    model, x = network(50), images(3)
    found = plan_of(model, x)
    timings = list(found.timed(x.data))
    names = [timing.name for timing in timings]
    assert names[:3] == ["conv1", "MaxPool2d", "layer1.0.conv1"]
    assert names[3:6] == ["layer1.0.conv2", "layer1.0.downsample.0", "layer1.0.conv3"]
    assert names[-2:] == ["GlobalAvgPool", "fc"]
    assert all(timing.seconds > 0 and timing.moved > 0 for timing in timings)
    by_name = {timing.name: timing for timing in timings}
    assert by_name["conv1"].flops == 3 * 2 * (16 * 16 * 8) * (7 * 7 * 3)
    assert by_name["fc"].flops == 3 * 2 * 256 * 5
    assert by_name["fc"].moved == 4 * (3 * (256 + 5) + 256 * 5)


def test_a_call_prepared_while_weights_changed_is_not_kept() -> None:
    """Another thread may prepare a step anew just when this one gets its call ready."""
    model, x = network(), images()
    plan = plan_of(model, x)
    step: Any = next(step for step in plan.steps if step.output in plan.layout.settled)
    workspace = Workspace(plan.layout, len(x.data), x.data)
    values = workspace.values(len(x.data))
    values[0] = x.data

    class Changing:
        output, prepared = step.output, "old"

        def ready(self, values: list[Any]) -> Any:
            made, self.prepared = self.prepared, "new"
            return made

    changing: Any = Changing()
    assert workspace.ready(changing, values) == "old"
    assert workspace.ready(changing, values) == "new"
    assert workspace.ready(changing, values) == "new"
