"""`python -m resnet_np.weights` as a user meets it."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused
from tiny import torchvision_arrays, write_legacy

from resnet_np.command import run_command
from resnet_np.models import ResNet
from resnet_np.weights import KERAS_CAFFE, layout, read, read_npz, registry, save_npz
from resnet_np.weights.__main__ import main

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
BLOCKS_50 = (3, 4, 6, 3)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "resnet_np.weights", *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess:
    """The same in this process, which is quicker."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["weights", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        status = run_command(main)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def flat(text: str) -> str:
    """The words of a text, wherever its lines were broken."""
    return " ".join(text.split())


def network_arrays() -> dict[str, np.ndarray]:
    """A ResNet-50 of a few channels and 3 classes: torchvision's names and layout."""
    rng = np.random.default_rng(0)
    state = ResNet(50, width=1 / 32, num_classes=3).state_dict()
    return {
        name: layout.to_torch(rng.uniform(0.5 if a.ndim == 1 else -0.2, 0.7, a.shape).astype("f4"))
        for name, a in state.items()
    }


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """That network in a file that has nothing but its tensors."""
    path = tmp_path / "bare.npz"
    np.savez(path, **network_arrays())
    return path


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_says_what_a_file_is(bare: Path) -> None:
    result = call("inspect", bare)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == str(bare)
    assert max(map(len, lines[1:])) <= 80
    words = flat(result.stdout)
    arrays = network_arrays()
    numbers = sum(a.size for a in arrays.values())
    for part in (
        f"size {bare.stat().st_size:,} bytes",
        "network ResNet-50, 0.03125 of the usual width",
        "variant v1.5 or v1, which the tensors cannot tell: say --variant v1.5",
        "batch norm epsilon 1e-05",
        "biases convolutions have none",
        "classes 3, their names are not in the file",
        "colours RGB, numbers 0..1 (/255)",
        "minus mean (0.485, 0.456, 0.406), divided by std (0.229, 0.224, 0.225)",
        "shorter side to 256, bilinear with antialias; then 224 x 224 from the centre",
        "the file does not say",
        f"parameters {numbers:,}: ",
        f"tensors 267, {4 * numbers:,} bytes of numbers",
        "left out: nothing",
        "odd: nothing",
    ):
        assert part in words, result.stdout
    row = next(line.split() for line in lines if line.startswith("layer1.0.downsample.0.weight"))
    w = arrays["layer1.0.downsample.0.weight"]
    figures = [f"{x:.2g}" for x in (w.min(), w.mean(), w.max(), w.std())]
    assert row[1:] == ["1x1x2x8", *figures]


def test_inspect_tells_what_is_odd(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    del arrays["fc.weight"], arrays["fc.bias"]
    arrays["layer1.0.bn1.bias"][:] = 0
    arrays["layer1.0.bn1.weight"][:] = 0.25
    arrays["layer1.0.bn1.running_var"][0] = 1e-9
    arrays["layer2.0.conv1.weight"] = arrays["layer2.0.conv1.weight"].astype(np.float64)
    arrays["layer3.3.bn3.weight"] = arrays["layer3.2.bn3.weight"]
    np.savez(tmp_path / "odd.npz", **arrays)
    result = call("inspect", tmp_path / "odd.npz")
    assert result.returncode == 0, result.stderr
    odd = flat(result.stdout).partition(" odd: ")[2]
    for part in (
        "numbers of type float64 in layer2.0.conv1.weight",
        "nothing but 0 in layer1.0.bn1.bias",
        "nothing but 0.25 in layer1.0.bn1.weight",
        "running variances below epsilon, 1e-05: 1 in layer1.0.bn1.running_var",
        "the same numbers stand in layer3.2.bn3.weight, layer3.3.bn3.weight",
        "it has no head",
    ):
        assert part in odd, result.stdout
    assert "classes no head: features only" in flat(result.stdout)


def test_inspect_refuses_a_trunk_with_a_hole(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    del arrays["layer2.0.conv1.weight"]
    np.savez(tmp_path / "hole.npz", **arrays)
    result = call("inspect", tmp_path / "hole.npz")
    assert result.returncode == 2
    assert result.stderr.endswith(
        "hole.npz: not one whole ResNet: it lacks layer2.0.conv1.weight\n"
    )


def test_inspect_tells_of_a_head_that_does_not_fit(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    arrays["fc.weight"] = arrays["fc.weight"][:, 1:]  # [K, C]
    np.savez(tmp_path / "head.npz", **arrays)
    result = call("inspect", tmp_path / "head.npz")
    assert result.returncode == 0, result.stderr
    assert "not one whole ResNet: fc.weight is [" in flat(result.stdout)


HERE = "the folder that you are in; give a new folder"


@pytest.mark.parametrize(("target", "said"), [("", "OUT: is empty"), (".", HERE), ("./", HERE)])
def test_convert_does_not_replace_the_folder_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    np.savez(tmp_path / "a.npz", **torchvision_arrays(BLOCKS_50))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = call("convert", "../a.npz", target, "--force", "--variant", "v1.5")
    assert result.returncode == 2
    assert said in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "empty"]


def test_inspect_knows_folded_statistics(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    for name, array in arrays.items():
        if name.endswith(("running_mean", "running_var")):
            array[:] = name.endswith("var")
    np.savez(tmp_path / "folded.npz", **arrays)
    odd = flat(call("inspect", tmp_path / "folded.npz").stdout).partition(" odd: ")[2]
    assert odd.startswith("every running mean is 0 and every running variance 1: ")
    assert "nothing but" not in odd


def test_a_file_that_is_refused_is_shown_first(tmp_path: Path) -> None:
    arrays = torchvision_arrays(BLOCKS_50)
    arrays["layer2.0.conv1.weight"].flat[:3] = np.nan, np.inf, -np.inf
    np.savez(tmp_path / "nan.npz", **arrays)
    result = call("inspect", tmp_path / "nan.npz")
    assert_refused(result, "nan.npz: values that are not finite: layer2.0.conv1.weight")
    size = arrays["layer2.0.conv1.weight"].size
    words = flat(result.stdout)
    assert f"layer2.0.conv1.weight: 3 of {size} numbers are NaN or infinite" in words
    assert "layer2.0.conv1.weight 1x1x12x4" in words


def test_another_network_is_shown_first(tmp_path: Path) -> None:
    arrays = {"features.0.weight": np.ones((8, 3, 5, 4), np.float32), "step": np.int64(7)}
    np.savez(tmp_path / "other.npz", **arrays)
    result = call("inspect", tmp_path / "other.npz")
    assert_refused(result, "other.npz: ", "not a ResNet: it has no conv1.weight")
    words = flat(result.stdout)
    assert "features.0.weight 5x4x3x8 float32 1 1 1 0" in words
    assert "step a number int64 7 7 7 0" in words
    assert "torchvision" not in words


def test_the_layers_of_another_keras_network_are_shown(tmp_path: Path) -> None:
    w = np.full((3, 3, 3, 8), 0.5, np.float32)
    write_legacy(tmp_path / "other.h5", {"squeeze": {"squeeze/kernel:0": w}})
    result = call("inspect", tmp_path / "other.h5")
    assert_refused(result, "other.h5: none of its 1 layers with weights (squeeze) is named as in")
    assert "squeeze/kernel 3x3x3x8 0.5 0.5 0.5 0" in flat(result.stdout)


def test_inspect_shows_names_of_the_file_beside_ours(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(7, 7, 3, 2)).astype(np.float32)
    write_legacy(tmp_path / "keras.h5", {"conv1_conv": {"conv1_conv/kernel:0": w}})
    words = flat(call("inspect", tmp_path / "keras.h5").stdout)
    assert "conv1.weight 7x7x3x2" in words
    assert "conv1_conv/kernel" in words

    arrays = {f"module.{name}": a for name, a in torchvision_arrays(BLOCKS_50).items()}
    np.savez(tmp_path / "prefix.npz", **arrays)
    assert "each with 'module.' in front" in call("inspect", tmp_path / "prefix.npz").stdout


def test_inspect_takes_a_checkpoint_at_its_word(tmp_path: Path) -> None:
    words = flat(call("inspect", GOLDEN / "checkpoint_format1.npz").stdout)
    assert "format a checkpoint of this project" in words
    assert "each with 'model/' in front" in words
    assert "the file does not say" not in words
    assert "belongs to the training run, not to the model" in words
    record = {"contract": KERAS_CAFFE.to_record(), "classes": ["a\x1b[2J", "b"]}
    save_npz(tmp_path / "odd.npz", {"model/fc.weight": np.ones((2, 2), np.float32)}, record)
    result = call("inspect", tmp_path / "odd.npz")
    assert "\x1b" not in result.stdout
    assert "model/fc.weight" not in result.stdout  # said once, as what stands in front


def test_inspect_refuses(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty").touch()
    for argument, part in [
        (tmp_path / "text.pth", "text.pth: not a known weight format"),
        (tmp_path / "empty", "empty: an empty file"),
    ]:
        assert_refused(call("inspect", argument), part)
    assert_refused(call(), "COMMAND", "--help")
    assert_refused(call("inspect"), "FILE", "--help")
    assert_refused(call("forge"), "'forge'")


def test_the_output_may_be_cut_off(bare: Path) -> None:
    script = f"{' '.join(command('inspect', bare))} | head -1; echo ${{PIPESTATUS[0]}}"
    shell = ["bash", "-c", script]
    result = subprocess.run(shell, capture_output=True, text=True, timeout=120)
    assert (result.stdout, result.stderr) == (f"{bare}\n0\n", "")


def test_a_pipe_is_no_weight_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    assert_refused(call("inspect", tmp_path / "pipe.pth"), "pipe.pth: a pipe or a device; save")


# --- convert -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth"])
def test_convert_keeps_every_number_and_fact(bare: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out{ending}"
    result = call("convert", bare, target, "--variant", "v1.5")
    assert (result.returncode, result.stderr) == (0, "")
    words = flat(result.stdout)
    assert f"read {bare}: NumPy .npz, ResNet-50, {bare.stat().st_size:,} bytes" in words
    assert f"written {target}: 267 tensors, {target.stat().st_size:,} bytes" in words
    before, after = read(bare), read(target)
    assert (before.variant, after.variant) == (None, "v1.5")
    assert (after.contract, after.bn_eps) == (before.contract, before.bn_eps)
    for name, array in before.arrays.items():
        assert np.array_equal(array, after.arrays[name]), name


def test_a_checkpoint_becomes_weights_for_its_image_size(tmp_path: Path) -> None:
    checkpoint, target = GOLDEN / "checkpoint_format1.npz", tmp_path / "weights.npz"
    result = call("convert", checkpoint, target)
    assert result.returncode == 0, result.stderr
    assert "left out: optimizer/" in flat(result.stdout)
    _, record = read_npz(checkpoint)
    assert record is not None
    file = read(target)
    assert file.format == "npz"
    assert file.contract.crop == record["image_size"]
    assert file.classes == tuple(record["classes"])
    assert file.variant == record["model"]["variant"]


def test_dropout_in_front_of_the_head_leaves_no_trace_in_the_names(tmp_path: Path) -> None:
    model = ResNet(50, width=1 / 32, num_classes=2, dropout=0.5)
    assert "fc.1.weight" in model.state_dict()
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    save_npz(tmp_path / "c.npz", arrays, {"image_size": 64, "classes": ["a", "b"]})
    result = call("convert", tmp_path / "c.npz", tmp_path / "w.npz")
    assert result.returncode == 0, result.stderr
    head = {name for name in read(tmp_path / "w.npz").arrays if name.startswith("fc")}
    assert head == {"fc.weight", "fc.bias"}


def test_convert_overwrites_nothing_unless_told_to(bare: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.npz"
    target.write_text("precious")
    assert_refused(call("convert", bare, target), "there.npz: is there already", "--force")
    assert target.read_text() == "precious"
    assert call("convert", bare, target, "--force").returncode == 0
    assert read(target).depth == 50


def test_convert_refuses(bare: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.npz"
    assert call("convert", bare, known, "--variant", "v1.5").returncode == 0
    for arguments, parts in [
        ((bare, tmp_path / "w.weights.h5"), ["--variant v1"]),
        ((bare, tmp_path / "w.onnx"), ["--variant"]),
        ((known, tmp_path / "w.npz", "--variant", "v1"), ["known.npz: is for v1.5", "--variant"]),
        ((bare, tmp_path / "w.tflite"), ["w.tflite: ", ".safetensors"]),
        ((bare, tmp_path / "w.npz", "--fold-batch-norm"), ["--fold-batch-norm", ".onnx only"]),
        ((tmp_path / "none.npz", tmp_path / "w.npz"), ["none.npz: cannot be read"]),
        ((bare, tmp_path / "no" / "w.npz"), ["w.npz: cannot be written"]),
        ((bare,), ["OUT"]),
    ]:
        assert_refused(call("convert", *arguments), *parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.npz", "known.npz"]


# --- verify, list, download ----------------------------------------------------------------------


def test_verify_prints_hashes_and_refuses_another_file(bare: Path) -> None:
    data = bare.read_bytes()
    result = call("verify", bare)
    assert (result.returncode, result.stderr) == (0, "")
    words = flat(result.stdout)
    assert f"size {len(data):,} bytes" in words
    assert f"sha256 {hashlib.sha256(data).hexdigest()}" in words
    assert f"md5 {hashlib.md5(data).hexdigest()}" in words
    assert "is none of the published files" in words
    refused = call("verify", bare, "imagenet-v2")
    assert_refused(refused, "bare.npz: is not known to be imagenet-v2: ", "bytes")
    assert hashlib.sha256(data).hexdigest() in refused.stdout
    assert_refused(call("verify", bare, "imagenet-9"), "'imagenet-9'", "'imagenet-v2' is one")
    assert_refused(call("verify", bare.parent), "a folder; name the file in it")


def test_verify_takes_a_name_for_the_file_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNET_NP_CACHE", str(tmp_path))
    assert_refused(call("verify", "imagenet-v2"), "imagenet-v2.pth: cannot be read")
    (tmp_path / "imagenet-v2.pth").write_bytes(b"something else")
    assert_refused(call("verify", "imagenet-v2"), "is not known to be imagenet-v2: 14 bytes")


def test_list_shows_every_name_in_80_columns(tmp_path: Path) -> None:
    environment = {**os.environ, "RESNET_NP_CACHE": str(tmp_path)}
    entry = registry.find("keras")
    (tmp_path / entry.file_name).touch()
    result = subprocess.run(command("list"), capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(registry.names())]] == registry.names()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"here: whether it is in {tmp_path}"
    assert [line.split()[0] for line in lines if line.rstrip().endswith(" yes")] == ["keras"]


@pytest.fixture
def published(bare: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server with one file that is published as `bare`, and comes in two halves; if a file
    `hold` is there, the second half does not come. The environment for `call_published`.
    """
    data, hold = bare.read_bytes(), tmp_path / "hold"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            middle = max(start, len(data) // 2)
            self.wfile.write(data[start:middle])
            self.wfile.flush()
            while hold.exists():
                time.sleep(0.05)
            self.wfile.write(data[middle:])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the command was interrupted
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fields = {
        "address": f"http://127.0.0.1:{server.server_port}/bare.npz",
        "sha256": hashlib.sha256(data).hexdigest(),
        "licence": "MIT",
        "variant": "v1",
    }
    table = "[source]\nhere = 'nowhere'\n[weights.bare]\ntitle = 'of a test'\n"
    table += "".join(f"{name} = '{value}'\n" for name, value in fields.items())
    table += f"bytes = {len(data)}\nsources = {{ here = {[*fields, 'bytes']} }}\n[classes]\n"
    (tmp_path / "table.toml").write_text(table)
    yield {
        **os.environ,
        "RESNET_NP_CACHE": str(tmp_path / "cache"),
        "TABLE": str(tmp_path / "table.toml"),
        "no_proxy": "*",
    }
    hold.unlink(missing_ok=True)
    server.shutdown()
    server.server_close()


WITH_TABLE = """
import os, runpy, sys
from resnet_np.weights import registry
table = registry.parse(open(os.environ["TABLE"]).read())
registry._table = lambda: table
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def with_table(module: str, *arguments: object) -> list[str]:
    """A command that knows, instead of the published weights, those in the file $TABLE."""
    return [sys.executable, "-c", WITH_TABLE, module, *map(str, arguments)]


def call_published(
    environment: dict[str, str], module: str, *arguments: object, cwd: Path | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        with_table(module, *arguments),
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


WEIGHTS = "resnet_np.weights"


def test_download_prints_the_path_alone(published: dict[str, str], bare: Path) -> None:
    path = Path(published["RESNET_NP_CACHE"]) / "bare.npz"
    for _ in range(2):
        result = call_published(published, WEIGHTS, "download", "bare")
        assert (result.returncode, result.stderr, result.stdout) == (0, "", f"{path}\n")
        assert path.read_bytes() == bare.read_bytes()
    refused = call_published(published, WEIGHTS, "download", "imagenet-v2")
    assert_refused(refused, "'imagenet-v2' is the name of no published file", "shows them\n")


def test_a_name_stands_for_its_file_everywhere(published: dict[str, str], tmp_path: Path) -> None:
    shown = call_published(published, WEIGHTS, "inspect", "bare", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    words = flat(shown.stdout)
    assert "published bare, of a test licence MIT" in words
    assert "variant v1: " in words
    result = call_published(published, WEIGHTS, "convert", "bare", "out.npz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert read(tmp_path / "out.npz").variant == "v1"
    verified = call_published(published, WEIGHTS, "verify", "bare.npz", "bare", cwd=tmp_path)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "is bare: of a test" in flat(verified.stdout)


def test_fine_tuning_and_prediction_take_names(published: dict[str, str], tmp_path: Path) -> None:
    for k, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((40, 40, 3), 150 * k + 5 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    image = tmp_path / "photos" / "dark" / "0.png"
    result = call_published(published, "resnet_np.predict", "bare", image, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    shown = {" ".join(line.split()[1:]) for line in result.stdout.splitlines()[1:4]}
    assert shown == {"class 0", "class 1", "class 2"}

    run = ["--data", "photos", "--weights", "bare", "--epochs", 1, "--out", "o", "--image-size", 32]
    result = call_published(published, "resnet_np.finetune", *run, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    _, record = read_npz(tmp_path / "o" / "checkpoint.npz")
    assert record is not None
    assert (record["model"]["variant"], record["arguments"]["weights"]) == ("v1", "bare")
    refused = call_published(published, "resnet_np.finetune", "--weights", "no", cwd=tmp_path)
    assert_refused(refused, "no: no file or folder, and 'no' is the name of no published file")


def test_what_exists_wins_over_a_name(published: dict[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **torchvision_arrays(BLOCKS_50, classes=2))
    (tmp_path / "own.npz").rename(tmp_path / "bare")
    words = flat(call_published(published, WEIGHTS, "inspect", "bare", cwd=tmp_path).stdout)
    assert "classes 2, " in words
    assert "published" not in words


def test_ctrl_c_in_a_download_leaves_a_part_to_go_on_from(
    published: dict[str, str], bare: Path, tmp_path: Path
) -> None:
    def default_signals() -> None:  # a test started in the background has SIGINT switched off
        signal.signal(signal.SIGINT, signal.default_int_handler)

    (tmp_path / "hold").touch()
    process = subprocess.Popen(
        with_table(WEIGHTS, "download", "bare"), env=published, text=True,
        preexec_fn=default_signals, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    path = Path(published["RESNET_NP_CACHE"]) / "bare.npz"
    part = path.with_name("bare.npz.part")
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors.startswith("interrupted") and str(part) in errors and errors.count("\n") == 1
    assert part.exists() and not path.exists()
    (tmp_path / "hold").unlink()
    assert call_published(published, WEIGHTS, "download", "bare").returncode == 0
    assert path.read_bytes() == bare.read_bytes()
    assert not part.exists()
