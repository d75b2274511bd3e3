"""A folder of small real things, whole and spoilt, for commands to fail on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_np.data.digits import load_digits_images
from resnet_np.training.setup import EMBEDDED
from resnet_np.weights import read, read_npz, save_npz, write

EACH = 8  # images of a class
FINETUNE = [sys.executable, "-m", "resnet_np.finetune"]

TABLES = {
    "good": "path,label,farm\nphotos/0/0.png,0,north\nphotos/1/0.png,1,south\n",
    "no_label_column": "path,class\nphotos/0/0.png,0\n",
    "column_twice": "path,label,label\nphotos/0/0.png,0,0\n",
    "no_rows": "path,label\n",
    "nothing": "",
    "ragged": "path,label\nphotos/0/0.png,0,1\n",
    "no_path": "path,label\n,0\n",
    "quotes": 'path,label\n"photos/0/0.png"x,0\n',
    "row_twice": "path,label\nphotos/0/0.png,0\nphotos/1/0.png,1\n./photos/0/0.png,1\n",
    "unknown_split": "path,label,split\nphotos/0/0.png,0,holdout\n",
    "half_split": "path,label,split\nphotos/0/0.png,0,train\nphotos/1/0.png,1,\n",
    "no_train": "path,label,split\nphotos/0/0.png,0,val\nphotos/1/0.png,1,test\n",
    "image_gone": "path,label\nphotos/0/0.png,0\nphotos/1/gone.png,1\n",
    "one_class": "path,label\nphotos/0/0.png,0\nphotos/0/1.png,0\n",
    "unlabelled": "path,label\nphotos/0/0.png,\nphotos/1/0.png,-1\n",
    "few": "path,label\nphotos/0/0.png,0\nphotos/1/0.png,1\n",
    "new_class": "path,label,split\nphotos/0/0.png,0,train\nphotos/1/0.png,1,train\n"
    "photos/2/0.png,2,val\n",
}

RECIPES = {
    "broken": "epochs = ",
    "misspelt": "epoch = 3\n",
    "unknown": 'colour = "red"\n',
    "word": 'epochs = "ten"\n',
    "table": "[epochs]\nn = 3\n",
    "negative": "lr = -0.1\n",
    "both": 'epochs = 3\n[[phases]]\nunfreeze = "fc"\nepochs = 1\n',
    "phase": '[[phases]]\nunfreeze = "fc"\nepoch = 1\n',
    "phases": 'phases = "fc"\n',
    "twice": "epochs = 3\nepochs = 4\n",
    "good": "epochs = 3\n",
}


def make_material(root: Path) -> None:
    """Fill the folder, which is the working folder, too."""
    make_images(root)
    for name, text in TABLES.items():
        (root / f"{name}.csv").write_text(text)
    (root / "latin.csv").write_bytes("path,label\nphotos/0/0.png,Möwe\n".encode("latin-1"))
    for name, text in RECIPES.items():
        (root / f"{name}.toml").write_text(text)
    for name in ("kept.json", "kept.png", "kept.csv", "kept.npz", "notes.txt"):
        (root / name).write_text("of an earlier day\n")
    (root / "names.txt").write_text("zero\n\ntwo\n")
    (root / "names.json").write_text('{"1": "one"}')
    make_weights(root)
    make_runs(root)
    (root / "temporary").mkdir()


def make_images(root: Path) -> None:
    """Folders of handwritten digits: `photos` are as they should be."""
    images, labels, classes = load_digits_images(32)
    for name in classes:
        folder = root / ("photos" if name in "012" else "others") / name
        folder.mkdir(parents=True)
        for i, image in enumerate(images[labels == int(name)][:EACH]):
            Image.fromarray(image).save(folder / f"{i}.png")
    photos, zero = root / "photos", root / "photos" / "0"
    shutil.copytree(zero, root / "one_class" / "0")
    (root / "empty").mkdir()
    (root / "all_empty" / "0").mkdir(parents=True)
    shutil.copytree(photos, root / "class_empty")
    (root / "class_empty" / "3").mkdir()
    for split, digits in {"train": "01", "val": "01", "test": "02"}.items():
        for name in digits:
            shutil.copytree(photos / name, root / "new_in_test" / split / name)
    for split in ("train", "holdout"):
        shutil.copytree(photos, root / "odd_splits" / split)
    for split in ("val", "test"):
        shutil.copytree(photos, root / "no_train" / split)
    shutil.copytree(photos, root / "renamed")
    (root / "renamed" / "0" / "0.png").rename(root / "renamed" / "0" / "x.png")
    shutil.copytree(photos, root / "too_small")
    for image in sorted((root / "too_small" / "2").iterdir())[2:]:
        image.unlink()
    content = (zero / "0.png").read_bytes()
    broken = {"zero_bytes": b"", "cut": content[: len(content) // 2], "text": b"no image\n"}
    for name, wrong in broken.items():
        shutil.copytree(photos, root / name)
        for image in (root / name / "0").iterdir():
            image.write_bytes(wrong)


def make_weights(root: Path) -> None:
    """Weight files with something wrong."""
    arrays, record = read_npz(EMBEDDED)
    assert record is not None
    content = EMBEDDED.read_bytes()
    (root / "cut.npz").write_bytes(content[: len(content) // 2])
    (root / "zero.npz").write_bytes(b"")
    save_npz(root / "table.npz", {"x": np.zeros((2, 3), np.float32)})
    write(root / "bare.npz", read(EMBEDDED))
    bare, _ = read_npz(root / "bare.npz")
    save_npz(root / "headless.npz", {n: a for n, a in bare.items() if not n.startswith("fc.")})
    save_npz(root / "not_a_number.npz", bare | {"bn1.weight": bare["bn1.weight"] * np.nan})
    folded = dict(arrays)
    for name, array in arrays.items():
        if name.endswith((".running_mean", ".running_var")):
            folded[name] = np.full_like(array, name.endswith(".running_var"))
    save_npz(root / "folded.npz", folded, record)


def make_runs(root: Path) -> None:
    """A finished run of one epoch, one that was broken off, and damaged ones."""
    words = ["--data", "photos", "--epochs", "1", "--out", "done"]
    subprocess.run([*FINETUNE, *words], cwd=root, check=True, stdout=subprocess.DEVNULL)
    for name in ("broken_off", "damaged", "cut_off", "stateless", "odd_record"):
        (root / name).mkdir()
    checkpoint = root / "done" / "checkpoint.npz"
    content = checkpoint.read_bytes()
    (root / "broken_off" / "checkpoint.npz").write_bytes(content)
    (root / "cut_off" / "checkpoint.npz").write_bytes(content[: len(content) // 2])
    spoilt = content[: len(content) // 2] + b"spoilt" + content[len(content) // 2 + 6 :]
    (root / "damaged" / "checkpoint.npz").write_bytes(spoilt)
    arrays, record = read_npz(checkpoint)
    assert record is not None
    model = {name: array for name, array in arrays.items() if name.startswith("model/")}
    save_npz(root / "stateless" / "checkpoint.npz", model, record)
    save_npz(root / "odd_record" / "checkpoint.npz", arrays, record | {"epoch": 7})
    shutil.copytree(root / "done", root / "swept" / "1")
    shutil.copytree(root / "done", root / "best_alone")
    (root / "best_alone" / "checkpoint.npz").rename(root / "best_alone" / "best.npz")
    shutil.copytree(root / "done", root / "runs" / "photos-1")
    (root / "no_history").mkdir()
    (root / "no_history" / "history.json").write_text(json.dumps({"arguments": {}}))
