"""The twins of a kernel have the same name and the same signature."""

import inspect
from types import FunctionType, ModuleType

from resnet_np.kernels import array, cpu, gpu, reference, shapes


def signatures(module: ModuleType) -> dict[str, str]:
    return {
        name: str(inspect.signature(value))
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def test_reference_and_array_define_the_same_kernels() -> None:
    slow, fast = signatures(reference), signatures(array)
    assert fast.pop("im2col"), "a helper of the array version, shown to readers by its name"
    assert slow == fast


def test_every_kernel_takes_out_but_the_steps_which_write_in_place() -> None:
    for name, signature in signatures(reference).items():
        assert ("out: typing.Any | None = None" in signature) == (not name.endswith("_step")), name


def test_the_compiled_kernels_are_the_same_ones() -> None:
    fast = {name: str(inspect.signature(getattr(cpu, name))) for name in cpu.__all__[1:]}
    assert fast == signatures(reference)


def test_the_kernels_for_a_card_are_the_same_ones() -> None:
    there = {name: str(inspect.signature(getattr(gpu, name))) for name in gpu.__all__}
    assert there == signatures(reference)


def test_shapes_have_signatures_of_kernels() -> None:
    own, known = signatures(shapes), signatures(reference)
    assert own
    assert own == {name: known[name] for name in own}
