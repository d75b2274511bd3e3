"""A few words of LLVM, LLVM being what Numba compiles to: vectors of float32 lanes, and loops.

Numba turns a Python loop into vector instructions where it can prove that it may. The inner loops
of a convolution have to keep a dozen vectors in registers across thousands of steps, which no
compiler finds by itself: so they are written out, instruction by instruction, as *intrinsics*,
functions that emit LLVM's intermediate code where they are called. `Emitter` has the instructions.

    https://llvm.org/docs/LangRef.html
    https://numba.readthedocs.io/en/stable/extending/low-level.html
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

F32, I32 = ir.FloatType(), ir.IntType(32)


class Emitter:
    """Emits instructions on vectors of `lanes` float32 numbers, at the end of what is there.

    Its values are LLVM's: names of results, not numbers. Python's loops around its calls are loops
    at compile time: they unroll.
    """

    def __init__(self, context: Any, builder: Any, lanes: int) -> None:
        self.context, self.builder, self.lanes = context, builder, lanes
        self.vector = ir.VectorType(F32, lanes)
        self.integer = context.get_value_type(types.intp)

    def data(self, array_type: Any, array: Any) -> Any:
        """The address of an array's first number."""
        return self.context.make_array(array_type)(self.context, self.builder, array).data

    def count(self, array_type: Any, array: Any) -> Any:
        """How many numbers an array has."""
        return self.context.make_array(array_type)(self.context, self.builder, array).nitems

    def at(self, address: Any, offset: Any) -> Any:
        """The address `offset` numbers further on."""
        return self.builder.gep(address, [offset])

    def number(self, address: Any, offset: Any) -> Any:
        """One number from memory."""
        return self.builder.load(self.at(address, offset))

    def load(self, address: Any, offset: Any) -> Any:
        """A vector from memory, aligned to nothing more than its numbers."""
        place = self.builder.bitcast(self.at(address, offset), self.vector.as_pointer())
        vector = self.builder.load(place)
        vector.align = 4
        return vector

    def store(self, vector: Any, address: Any, offset: Any) -> None:
        place = self.builder.bitcast(self.at(address, offset), self.vector.as_pointer())
        self.builder.store(vector, place).align = 4

    def prefetch(self, address: Any, write: bool) -> None:
        """Ask for a line of memory: to write it soon, or to have it in the second-level cache.

        Nobody waits for it, and any address will do.
        """
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        for_writing, level, data = I32(int(write)), I32(3 if write else 2), I32(1)
        line = self.builder.bitcast(address, byte)
        self.builder.call(function, [line, for_writing, level, data])

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def spread(self, number: Any) -> Any:
        """One number in all lanes."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c: in one instruction where the processor has one, else in two.

        (`llvm.fma` would call a library function for each number on a processor without it.)
        """
        name = f"llvm.fmuladd.v{self.lanes}f32"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [a, b, c])

    def relu(self, vector: Any) -> Any:
        """max(vector, 0), with NaN left as NaN: it is not below 0."""
        zero = self.constant(0.0)
        return self.builder.select(self.builder.fcmp_ordered("<", vector, zero), zero, vector)

    def transpose(self, rows: list[Any]) -> list[Any]:
        """As many vectors as each has lanes, as the rows of a square: its columns.

        First the square's quarters off the diagonal change places, then those of each quarter, and
        so on down to single numbers (Eklundh 1972, "A fast computer method for matrix
        transposing").
        """
        rows, half = list(rows), self.lanes // 2
        lanes = range(self.lanes)
        while half:
            low = [lane if not lane & half else self.lanes + lane - half for lane in lanes]
            high = [lane + half if not lane & half else self.lanes + lane for lane in lanes]
            for i in (row for row in lanes if not row & half):
                a, b = rows[i], rows[i + half]
                for place, mask in ((i, low), (i + half, high)):
                    picked = ir.Constant(ir.VectorType(I32, self.lanes), mask)
                    rows[place] = self.builder.shuffle_vector(a, b, picked)
            half //= 2
        return rows

    def variable(self) -> Any:
        """A vector that changes in a loop. LLVM keeps it in a register while there are enough."""
        return cgutils.alloca_once(self.builder, self.vector)

    def get(self, variable: Any) -> Any:
        return self.builder.load(variable)

    def set(self, variable: Any, vector: Any) -> None:
        self.builder.store(vector, variable)

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1) -> Iterator[Any]:
        """for index in range(start, stop, step), at run time."""
        with cgutils.for_range_slice(self.builder, start, stop, self.int(step)) as (index, _):
            yield index

    def int(self, value: int) -> Any:
        return ir.Constant(self.integer, value)
