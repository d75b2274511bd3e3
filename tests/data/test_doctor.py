"""The doctor finds each planted fault, by path, and nothing in what is well."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from resnet_np import doctor as front_door
from resnet_np.command import run_command
from resnet_np.data import doctor
from resnet_np.data.doctor import KINDS, Finding, examine, find_format
from resnet_np.data.folders import IMAGE_SUFFIXES
from resnet_np.errors import UserError

SIZE = 64


def scene(seed: int, w: int = 96, h: int = 64) -> Image.Image:
    """A smooth image with something to see in it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """Two classes in three splits, of four images each: nothing to find."""
    for k, split in enumerate(("train", "val", "test")):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                scene(100 * k + 10 * c + i).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def found(source: Path) -> list[tuple[str, tuple[str, ...], str]]:
    return [(f.kind, f.paths, f.detail) for f in examine(source, SIZE).findings]


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def test_nothing_is_found_where_all_is_well(healthy):
    (healthy / "README.md").write_text("about these images")
    (healthy / "train" / "cat" / "notes.txt").write_text("BM is no bitmap, P5 no map")
    (healthy / "train" / "cat" / ".hidden.jpg").write_text("not looked at")
    diagnosis = examine(healthy, SIZE)
    assert diagnosis.findings == ()
    assert (diagnosis.images, diagnosis.unlabelled) == (24, 0)
    each = {"cat": 4, "dog": 4}
    assert diagnosis.counts == {"train": each, "validation": each, "test": each}
    assert diagnosis.class_weights == {"cat": 1.0, "dog": 1.0}


FAULTS: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "zero bytes": ("new.jpg", lambda p: p.write_bytes(b""), "empty", ""),
    "text": ("new.jpg", lambda p: p.write_text("<html>"), "no image", "text"),
    "bytes": ("new.jpg", lambda p: p.write_bytes(bytes(99)), "no image", "bytes of no known"),
    "HEIF": (
        "new.jpg",
        lambda p: p.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)),
        "unreadable",
        "HEIF, which is not read here",
    ),
    "damaged header": (
        "new.jpg",
        lambda p: p.write_bytes(b"\xff\xd8\xff" + b"nonsense" * 9),
        "unreadable",
        "",
    ),
    "numbers of no range": (
        "new.tif",
        lambda p: Image.fromarray(np.eye(64, dtype=np.float32)).save(p),
        "unreadable",
        "its pixels are floating-point numbers",
    ),
    "a PNG as .jpg": ("new.jpg", lambda p: scene(1000).save(p, "PNG"), "misnamed", "PNG"),
    "an image as .txt": ("new.txt", lambda p: scene(1000).save(p, "PNG"), "passed over", "PNG"),
    "an image without suffix": ("new", lambda p: scene(1000).save(p, "GIF"), "passed over", "GIF"),
    "palette": (
        "new.png",
        lambda p: scene(1000).convert("P", palette=Image.Palette.ADAPTIVE).save(p),
        "palette",
        "mode P",
    ),
    "CMYK": ("new.jpg", lambda p: scene(1000).convert("CMYK").save(p), "colour space", "mode CMYK"),
    "grey": ("new.jpg", lambda p: scene(1000).convert("L").save(p), "greyscale", "mode L"),
    "16-bit grey": (
        "new.png",
        lambda p: Image.fromarray(np.asarray(scene(1000).convert("L")).astype("u2") * 257).save(p),
        "greyscale",
        "mode I;16",
    ),
    "grey with alpha": ("new.png", lambda p: scene(1000).convert("LA").save(p), "alpha", "mode LA"),
    "alpha": ("new.png", lambda p: scene(1000).convert("RGBA").save(p), "alpha", "mode RGBA"),
    "a transparent colour": (
        "new.png",
        lambda p: scene(1000).save(p, transparency=(1, 2, 3)),
        "alpha",
        "a transparent colour in mode RGB",
    ),
    "small": ("new.png", lambda p: scene(1000, 96, 31).save(p), "small", "96 x 31"),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_each_fault_of_one_file(healthy, name):
    file, make, kind, detail = FAULTS[name]
    make(healthy / "train" / "dog" / file)
    ((seen, paths, said),) = found(healthy)
    assert (seen, paths) == (kind, (f"train/dog/{file}",))
    assert said.startswith(detail)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "ppm", "tif"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_truncated_files_of_every_format(healthy, suffix, share):
    path = healthy / "test" / "dog" / f"new.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    cut(path, share)
    ((kind, paths, _),) = [f for f in found(healthy) if f[0] not in ("palette",)]
    assert (kind, paths) == ("truncated", (f"test/dog/new.{suffix}",))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_found_and_compared_upright(healthy, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene(1000).save(healthy / "train" / "cat" / "new.jpg", exif=exif, quality=95)
    wanted = [("turned", ("train/cat/new.jpg",), f"orientation {orientation}")]
    assert found(healthy) == (wanted if orientation != 1 else [])


def test_a_copy_that_is_stored_turned_is_a_copy(healthy):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.open(healthy / "train" / "cat" / "0.png")
    upright.rotate(90, expand=True).save(healthy / "train" / "cat" / "new.png", exif=exif)
    assert [kind for kind, _, _ in found(healthy)] == ["turned", "near duplicate"]


def test_copies_and_leaks(healthy):
    train, test = healthy / "train", healthy / "test"
    shutil.copy(train / "cat" / "0.png", train / "cat" / "a.png")
    shutil.copy(train / "cat" / "1.png", train / "dog" / "b.png")
    shutil.copy(train / "cat" / "2.png", test / "cat" / "c.png")
    near = ImageEnhance.Brightness(Image.open(train / "dog" / "3.png")).enhance(1.05)
    near.save(train / "dog" / "d.jpg")
    near = Image.open(train / "dog" / "0.png").resize((192, 128))
    near.save(test / "dog" / "e.jpg")
    assert found(healthy) == [
        ("leak", ("test/cat/c.png", "train/cat/2.png"), "same content; in test and train"),
        ("leak", ("test/dog/e.jpg", "train/dog/0.png"), "nearly the same; in test and train"),
        ("duplicate", ("train/cat/0.png", "train/cat/a.png"), "same content"),
        (
            "duplicate",
            ("train/cat/1.png", "train/dog/b.png"),
            "same content; under different labels: cat, dog",
        ),
        ("near duplicate", ("train/dog/3.png", "train/dog/d.jpg"), "nearly the same"),
    ]


def test_a_link_into_another_split_is_a_leak(healthy):
    shutil.rmtree(healthy / "test" / "dog")
    (healthy / "test" / "dog").symlink_to(healthy / "train" / "dog")
    assert [kind for kind, _, _ in found(healthy)] == ["leak"] * 4


def test_images_outside_of_the_class_folders(healthy):
    scene(1000).save(healthy / "one.jpg")
    scene(1000).save(healthy / "train" / "two.jpg")
    assert found(healthy) == [
        ("outside", ("one.jpg",), ""),
        ("outside", ("train/two.jpg",), ""),
    ]


def test_classes_that_are_missing_or_unequal(healthy):
    shutil.rmtree(healthy / "test" / "dog")
    (healthy / "train" / "owl").mkdir()
    assert found(healthy) == [
        ("missing class", (), "owl: no image in train"),
        ("missing class", (), "owl: no image in validation"),
        ("missing class", (), "dog: no image in test"),
        ("missing class", (), "owl: no image in test"),
    ]


def fill(folder: Path, **counts: int) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir()
        for i in range(count):
            scene(1000 * ord(name) + i).save(folder / name / f"{i}.png")
    return folder


def test_class_weights_are_those_of_scikit_learn(tmp_path):
    # n = 20, K = 2: 20 / (2 * 16) and 20 / (2 * 4)
    diagnosis = examine(fill(tmp_path, a=16, b=4), SIZE)
    assert diagnosis.class_weights == {"a": 0.625, "b": 2.5}
    wanted = Finding("imbalance", (), "suggested class weights: a 0.62, b 2.50")
    assert diagnosis.findings == (wanted,)


def test_one_class_of_many_may_be_too_large(tmp_path):
    # 27 images in 5 classes: 11 are more than twice the 5.4 of an equal share, 4 more than half.
    ((kind, _, detail),) = found(fill(tmp_path, a=11, b=4, c=4, d=4, e=4))
    assert (kind, detail[:32]) == ("imbalance", "suggested class weights: a 0.49,")


def test_a_class_must_be_large_enough_for_a_validation_part(healthy):
    for i in range(3):
        (healthy / "train" / "dog" / f"{i}.png").unlink()
    assert ("too few", (), "dog: 1 in train; 2 are needed") not in found(healthy)
    shutil.rmtree(healthy / "val")
    assert ("too few", (), "dog: 1 in train; 2 are needed") in found(healthy)


def test_without_splits_classes_must_be_large_enough_to_be_split(tmp_path):
    assert found(fill(tmp_path, a=3, b=2)) == [("too few", (), "b: 2 in all; 3 are needed")]


def test_one_class(tmp_path):
    assert found(fill(tmp_path, a=3)) == [("one class", (), "a")]


def test_tables_name_their_images_and_count_those_without_a_label(healthy):
    rows = [
        f"{split}/{name}/{i}.png,{name},{split}"
        for split in ("train", "val", "test")
        for name in ("cat", "dog")
        for i in range(3)
    ]
    rows += ["train/cat/3.png,,test", "train/dog/3.png,-1,", "train/dog/nowhere.png,dog,val"]
    table = healthy / "images.csv"
    table.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    diagnosis = examine(table, SIZE)
    assert diagnosis.findings == (Finding("missing", ("train/dog/nowhere.png",), ""),)
    assert (diagnosis.images, diagnosis.unlabelled) == (21, 2)
    assert diagnosis.counts["validation"] == {"cat": 3, "dog": 4}
    table.write_text("path,label,split\ntrain/cat/0.png,cat,val\ntrain/dog/0.png,dog,val\n")
    assert found(table) == [
        ("missing class", (), "cat: no image in train"),
        ("missing class", (), "dog: no image in train"),
    ]
    table.write_text("path,label\ntrain/cat/0.png,\ntrain/dog/0.png,-1\n")
    assert found(table) == []


def test_the_order_of_the_findings_does_not_depend_on_the_threads(healthy):
    for i in range(30):
        (healthy / "train" / "cat" / f"x{i:02}.jpg").write_bytes(b"" if i % 2 else b"text")
    first = examine(healthy, SIZE)
    assert all(examine(healthy, SIZE) == first for _ in range(5))
    names = [path for finding in first.findings for path in finding.paths]
    assert names == [f"train/cat/x{i:02}.jpg" for i in (*range(1, 30, 2), *range(0, 30, 2))]


def test_progress_is_told(healthy):
    told: list[int] = []
    (healthy / "train" / "cat" / "notes.txt").write_text("looked at, too")
    examine(healthy, SIZE, begin=lambda n: told.append(-n), advance=told.append)
    assert told == [-25] + [1] * 25


def test_a_file_that_may_not_be_read(healthy, monkeypatch):
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    look = doctor.inspect(healthy / "train" / "cat" / "0.png", SIZE)
    assert look.faults == (("unreadable", "Permission denied"),)


def test_an_image_too_large_for_memory_is_refused_by_its_header(healthy, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert {kind for kind, _, _ in found(healthy)} == {"unreadable"}


def test_every_suffix_has_a_format_and_every_format_is_recognised(tmp_path):
    for suffix in sorted(IMAGE_SUFFIXES):
        path = tmp_path / f"a{suffix}"
        scene(0).convert("L" if suffix == ".pgm" else "RGB").save(path)
        assert find_format(path.read_bytes()[:64]) == doctor.NAMED[suffix]
    assert (
        find_format(b"") is find_format(b"RIFF....WAVE") is find_format(b"BMW and others") is None
    )


def test_what_cannot_be_listed(tmp_path):
    with pytest.raises(UserError, match="nowhere: no readable folder"):
        examine(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no class folders in it; expected"):
        examine(tmp_path)


def test_the_clean_photographs(test_data):
    assert examine(test_data / "images" / "trashnet").findings == ()


# --- the command ---------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "resnet_np.doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_on_healthy_images(healthy):
    done = run("--data", healthy, "--image-size", SIZE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{healthy}: 24 images in 2 classes (8 train, 8 validation, 8 test), 0 unlabelled\n"
        "Nothing was found.\n"
    )


def test_the_command_with_findings(healthy, tmp_path):
    (healthy / "train" / "cat" / "[bold]\x1b.jpg").write_bytes(b"")
    for i in range(5):
        (healthy / "train" / "dog" / f"x{i}.png").write_bytes(b"")
    out = tmp_path / "findings.json"
    done = run("--data", healthy, "--image-size", SIZE, "--json", out)
    assert (done.returncode, done.stderr) == (1, "")
    assert "\x1b" not in done.stdout
    for part in ("zero bytes", "[bold]\\x1b.jpg", "x0.png", "and 3 more", "6 findings"):
        assert part in done.stdout
    record = json.loads(out.read_text())
    assert record == json.loads(json.dumps(examine(healthy, SIZE).to_record()))
    assert record["findings"][5] == {"kind": "empty", "paths": ["train/dog/x4.png"], "detail": ""}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --data"),
        (["--data", "nowhere"], "nowhere: no readable folder: No such file"),
        (["--data", ".", "--image-size", "8"], "argument --image-size: must be a whole number of"),
        (["--data", "a.csv"], "a.csv, line 2: 1 fields, but the header has 2"),
        (["--data", ".", "--json", "no/where.json"], "--json no/where.json: there is no folder no"),
    ],
)
def test_what_the_command_refuses(healthy, monkeypatch, capsys, arguments, message):
    (healthy / "a.csv").write_text("path,label\ntrain/cat/0.png\n")
    monkeypatch.chdir(healthy)
    monkeypatch.setattr(sys, "argv", ["resnet_np.doctor", *arguments])
    assert run_command(front_door.main) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_every_kind_that_is_found_has_a_title():
    assert {kind for _, _, kind, _ in FAULTS.values()} <= KINDS.keys()
    assert set(doctor.MODES.values()) <= KINDS.keys()
