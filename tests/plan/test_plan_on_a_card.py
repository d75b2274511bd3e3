"""The plan on a card: the same results, as one launch for each size of batch, and never stale."""

import copy
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from standins.card import stand_in

from resnet_np import ResNet, Tensor, no_grad
from resnet_np.device import activation_dtype
from resnet_np.kernels import fused, using_precision
from resnet_np.kernels.gpu import streams
from resnet_np.plan import buffers, repeating


@pytest.fixture
def card() -> Iterator[Any]:
    with stand_in() as cupy:
        yield cupy


def network(**config: Any) -> ResNet:
    """Narrow, with batch norms that do something, in evaluation mode."""
    model = ResNet(18, **({"width": 1 / 16, "num_classes": 3} | config))
    rng = np.random.default_rng(0)
    for name, array in model.state_dict().items():
        if name.endswith("running_var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif name.endswith("running_mean"):
            array[...] = rng.normal(0, 0.1, array.shape)
    return model.eval()


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 33, 33, 3), np.float32)


def predicted(model: ResNet, x: Any) -> Any:
    with no_grad():
        return model(Tensor(x)).data


def on_card(model: ResNet) -> ResNet:
    return copy.deepcopy(model).to("gpu")


def assert_close(got: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got.get(), expected, rtol=1e-4, atol=1e-5)


def test_one_launch_for_each_size_of_batch(card: Any) -> None:
    model = network()
    there = on_card(model)
    for n in (2, 3, 2, 1, 3):
        x = images(n, seed=n)
        assert_close(predicted(there, card.asarray(x)), predicted(model, x))
    card.standin.record.reset()
    predicted(there, card.asarray(images(3)))
    record = card.standin.record
    assert record.graphs == 1
    assert len(record.gemms) == 21 and record.launches
    # Beside it: are the statistics what they were? And the images' and the result's places.
    assert record.operations == ["concatenate", "copyto", "copyto"]
    assert len(record.downloads) == 1


def test_the_first_result_is_that_of_all_later_ones(card: Any) -> None:
    there, x = on_card(network()), card.asarray(images(2))
    first, second, third = (predicted(there, x) for _ in range(3))
    assert (first == second).all() and (second == third).all()
    assert first.data.ptr != second.data.ptr, "a result belongs to the caller"


def test_new_weights_and_statistics_are_seen(card: Any) -> None:
    model, x = network(), images(2)
    there, there_x = on_card(model), card.asarray(x)
    predicted(there, there_x)
    for name, change in (("bn1.running_mean", 0.5), ("layer3.0.bn2.running_var", 2.0)):
        for each in (model, there):
            dict(each.named_buffers())[name][...] = change  # in place, without a version
        assert_close(predicted(there, there_x), predicted(model, x))
    for each in (model, there):
        each.load_state_dict({k: 0.9 * v for k, v in each.state_dict().items()})
    assert_close(predicted(there, there_x), predicted(model, x))


def test_another_precision_is_recorded_anew(card: Any) -> None:
    there, x = on_card(network()), card.asarray(images(2))
    exact = predicted(there, x)
    with using_precision("tf32"):
        rough = predicted(there, x)
        assert {gemm.compute for gemm in card.standin.record.gemms[-5:]} == {"TF32"}
    assert (exact != rough).any()
    assert (predicted(there, x) == exact).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_halves(card: Any, precision: str) -> None:
    dtype = activation_dtype(precision)
    model, x = network(), images(2)
    there, there_x = on_card(model), card.asarray(x).astype(dtype)
    for _ in range(2):
        y = predicted(there, there_x).astype("float32")
        np.testing.assert_allclose(y.get(), predicted(model, x), rtol=0.1, atol=0.05)


def test_parameters_of_16_bits(card: Any) -> None:
    """What is converted for the kernels, like a bias, must be there when the graph is launched."""
    model, x = network(), images(2)
    there, there_x = on_card(model).to("float16"), card.asarray(x).astype("float16")
    for _ in range(2):
        y = predicted(there, there_x).astype("float32")
        gc.collect()
        np.testing.assert_allclose(y.get(), predicted(model, x), rtol=0.1, atol=0.05)


def test_the_callers_stream_waits_and_is_waited_for(card: Any) -> None:
    """The stand-in does what is on a stream as late as it may: a missing wait gives NaN."""
    model, x = network(), images(2)
    there, there_x, expected = on_card(model), card.asarray(x), predicted(model, x)
    for _ in range(3):
        with card.cuda.Stream(non_blocking=True) as stream:
            late = [card.empty(x.shape, "f4") for _ in range(2)]
            ys = []
            for array in late:
                array[...] = there_x
                ys.append(predicted(there, array))
                array[...] = np.nan  # after the plan has read it
            for y in ys:
                assert_close(y, expected)
            stream.synchronize()
        assert_close(predicted(there, there_x), expected)


def test_threads(card: Any) -> None:
    model = network()
    there, wrong = on_card(model), []
    batches = [images(n, seed=n) for n in (1, 2, 3)]
    expected = [predicted(copy.deepcopy(model), x) for x in batches]

    def predict(offset: int) -> None:
        with card.cuda.Stream(non_blocking=True):
            for k in range(4):
                i = (k + offset) % len(batches)
                y = predicted(there, card.asarray(batches[i])).get()
                if not np.allclose(y, expected[i], rtol=1e-4, atol=1e-5):
                    wrong.append(i)

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_sizes_that_nobody_asked_for_lately_are_forgotten(
    card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffers, "MOST_REPEATED", 2)
    model, made = network(), []
    there, record = on_card(model), repeating.recorded
    monkeypatch.setattr(repeating, "recorded", lambda runs: made.append(1) or record(runs))
    for n, recordings in ((3, 1), (2, 2), (3, 2), (1, 3), (3, 3), (2, 4)):
        assert_close(predicted(there, card.asarray(images(n))), predicted(model, images(n)))
        assert len(made) == recordings


def test_a_large_batch_runs_in_parts(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(), images(5)
    there, expected = on_card(model), predicted(model, x)
    predicted(there, card.asarray(x))
    (entry,) = there.plans._entries.values()
    sizes = entry.plan.layout.sizes
    monkeypatch.setattr(fused, "GPU_WORKSPACE_BYTES", 2 * 4 * sum(sizes))
    card.standin.record.reset()
    assert_close(predicted(there, card.asarray(x)), expected)
    assert card.standin.record.graphs == 3


def test_what_allocates_is_not_recorded(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage with an op that makes its own result runs step by step, on the plans' stream."""
    model, x = network(pooling="max"), images(2)
    there = on_card(model)
    card.standin.record.reset()
    assert_close(predicted(there, card.asarray(x)), predicted(model, x))
    assert card.standin.record.graphs == 0


def test_after_a_mistake_while_recording_all_goes_on(card: Any) -> None:
    def fail() -> None:
        raise MemoryError("while recording")

    with streams.in_turn(), pytest.raises(MemoryError, match="while recording"):
        streams.Recording([fail])
    model, x = network(), images(2)
    assert_close(predicted(on_card(model), card.asarray(x)), predicted(model, x))
