"""What the processor that Numba compiles for can do, and the register tile that suits it.

Numba's target is asked, not the machine: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES choose another one.
"""

from dataclasses import dataclass

LINE = 16  # numbers of a cache line: 64 bytes


@dataclass(frozen=True)
class Tile:
    """`rows` pixels x `vectors` vectors of `lanes` output channels, all held in registers."""

    rows: int
    vectors: int
    lanes: int

    @property
    def channels(self) -> int:
        return self.vectors * self.lanes


# A tile needs rows * vectors registers for its sums, and some more for a pixel and the weights.
AVX512 = Tile(12, 2, 16)  # 24 of 32 registers; with 28 the compiler begins to spill
AVX2 = Tile(6, 2, 8)  # 12 of 16
OTHER = Tile(4, 2, 4)  # SSE has 16 registers of 4 lanes, NEON 32


def features() -> set[str]:
    """What Numba's target has, in LLVM's words: "avx2", "fma", ..."""
    from numba.core.registry import cpu_target

    _, _, text = cpu_target.target_context.codegen().magic_tuple()
    return {word[1:] for word in text.split(",") if word.startswith("+")}


def choose_tile(has: set[str]) -> Tile:
    """The tile for a processor with these features."""
    if "avx512f" in has:
        return AVX512
    return AVX2 if {"avx", "avx2"} & has else OTHER


TILE = choose_tile(features())
