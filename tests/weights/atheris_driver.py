"""Mutants that atheris makes, which sees what each of them reaches in the code.

    python tests/weights/atheris_driver.py pickle|FORMAT FOLDER [-max_total_time=300]

"pickle" is the pickle in PyTorch's files by itself, FORMAT one of mutants.FORMATS. FOLDER keeps
what reached something new, and begins with the small files of seeds.py. The arguments behind it are
libFuzzer's. Whatever is found is kept as crash-... in the current folder. Not part of the tests: it
needs `pip install atheris`, which tests do not.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["resnet_np.weights", "zipfile", "pickletools"]):
    import pickletools  # noqa: F401
    import zipfile  # noqa: F401

    from resnet_np.errors import UserError
    from resnet_np.weights import read
    from resnet_np.weights.formats.torch_pickle import Stream, load

from fuzzing import wrong_message
from mutants import seeds_of
from seeds import network, torch_pickle

HERE = Path(tempfile.mkdtemp()) / "a"


def read_pickle(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        load(Stream(io.BytesIO(data), len(data)), lambda saved_id: None)


def read_file(data: bytes) -> None:
    HERE.write_bytes(data)
    try:
        read(HERE)
    except UserError as error:
        if fault := wrong_message(str(error), HERE):
            raise AssertionError(fault) from error


def main() -> None:
    target, folder, *options = sys.argv[1:]
    corpus = Path(folder)
    corpus.mkdir(exist_ok=True)
    function: Callable[[bytes], None] = read_file
    begin = [files[""] for files in seeds_of(target)] if target != "pickle" else []
    if target == "pickle":
        function, begin = read_pickle, [torch_pickle(network())]
    for number, data in enumerate(begin):
        (corpus / f"seed{number}").write_bytes(data)
    atheris.Setup([sys.argv[0], folder, "-timeout=10", "-rss_limit_mb=2048", *options], function)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
