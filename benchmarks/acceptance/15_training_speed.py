"""Is a training step well ahead of PyTorch's, and does it need no more memory?

    python benchmarks/acceptance/15_training_speed.py [--json FILE] [--repetitions N] [--batch N]

ResNet-50, 224 pixels, float32, a batch of 16, SGD with momentum, against PyTorch with its channels
last, in turns: everything trained, then layer4 and the head alone. Then the memory of predicting
one image, against ONNX Runtime. About half an hour. Exits with 1 if a floor is missed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from _common import save_json
from _comparing import ALLOWED_DIFFERENCE
from _showing import at_least, at_most, show
from _whole_model import measure_all, parse_whole_model, print_rows, whole_model_parser

STEPS = {"stem": ("full step", 1.6, 1.9), "layer4": ("layer4 and head", 1.7, 2.0)}
PREDICTION_MEMORY = 1.2  # of ONNX Runtime's


def main() -> int:
    parser = whole_model_parser(__doc__.splitlines()[0], batches=[16])
    parser.set_defaults(against="torch")
    args, facts = parse_whole_model(parser)
    rows = [row for stage in STEPS for row in measure_all(args, "training", args.batch, stage)]
    args.against = "onnxruntime"
    prediction = measure_all(args, "inference", [1])
    for part in (rows, prediction):
        print_rows(part, facts)
    save_json(args, facts, rows + prediction)

    passed = []
    for row in rows:
        what, floor, aim = STEPS[row["unfreeze"]]
        theirs, ours = row["engines"]["torch"], row["engines"]["resnet_np"]
        low, high = theirs["spread"]
        note = f", in the rounds {low:.2f} to {high:.2f}; the aim is {aim}"
        what = f"batch {row['batch']}, {what}"
        passed.append(at_least(f"{what}, ratio to torch", theirs["ratio"], floor, note=note))
        share = ours["peak_mib"] / theirs["peak_mib"]
        note = f", {ours['peak_mib']:.0f} of {theirs['peak_mib']:.0f} MiB"
        passed.append(at_most(f"{what}, share of torch's peak memory", share, 1, note=note))
        error, same = row["largest_difference"], row["largest_difference"] <= ALLOWED_DIFFERENCE
        passed.append(show(f"{what}, losses", f"{error:.1e}", f"{ALLOWED_DIFFERENCE:.0e}", same))
    ours, theirs = (prediction[0]["engines"][n]["peak_mib"] for n in ("resnet_np", "onnxruntime"))
    what = "predicting one image, share of onnxruntime's peak memory"
    note = f", {ours:.0f} of {theirs:.0f} MiB"
    passed.append(at_most(what, ours / theirs, PREDICTION_MEMORY, note=note))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
