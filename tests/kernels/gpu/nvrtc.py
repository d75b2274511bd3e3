"""NVIDIA's run-time compiler, called as CuPy calls it, but with no card and no driver needed."""

import ctypes
import ctypes.util
import sys
from functools import cache
from pathlib import Path

# Where the packages nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvrtc put it, then where CUDA does.
PLACES = [
    *(place for folder in sys.path for place in sorted(Path(folder).glob("nvidia/*/lib"))),
    *sorted(Path("/usr/local").glob("cuda*/lib64")),
]


@cache
def library() -> ctypes.CDLL | None:
    """The compiler, or None where there is none."""
    found = [
        file
        for folder in PLACES
        for file in sorted(folder.glob("libnvrtc.so.1?"))
        if "builtins" not in file.name
    ]
    if found:
        return ctypes.CDLL(str(found[0]))
    name = ctypes.util.find_library("nvrtc")
    return ctypes.CDLL(name) if name else None


def compile_for(architecture: str, text: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """The machine code for "sm_90" or the like, and what the compiler said.

    Raises RuntimeError with the compiler's words where the text does not compile.
    """
    nvrtc = library()
    assert nvrtc is not None
    words = [*options, f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    try:
        array = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
        failed = nvrtc.nvrtcCompileProgram(program, len(words), array)
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        said = log.rstrip(b"\0").decode()
        if failed:
            raise RuntimeError(said)
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), said
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size_of: ctypes._CFuncPtr, read: ctypes._CFuncPtr, program: ctypes.c_void_p) -> bytes:
    """What NVRTC gives by a function for its size and one for its bytes."""
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert read(program, buffer) == 0
    return buffer.raw
