"""Is prediction ahead of the fastest of PyTorch, torch.compile, ONNX Runtime and OpenVINO?

    python benchmarks/acceptance/14_inference_speed.py [--json FILE] [--repetitions N] [--batch ...]

ResNet-50, 224 pixels, float32, batches of 1, 8 and 32, all engines in turns, with the real weights
of RESNET_NP_TEST_DATA: their logits are compared with torchvision's. The ratios were asked for on
2 cores with AVX-512. About half an hour. Exits with 1 if anything is missed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from _common import save_json
from _material import real_data
from _showing import at_least, show
from _whole_model import measure_all, parse_whole_model, print_rows, whole_model_parser

ASKED = {1: 1.15, 8: 1.4, 32: 1.4}
LOGITS = 1e-5  # relative error against torchvision's


def main() -> int:
    parser = whole_model_parser(__doc__.splitlines()[0], batches=list(ASKED))
    parser.set_defaults(against="torch,torch-compile,onnxruntime,openvino")
    args, facts = parse_whole_model(parser)
    rows = measure_all(args, "inference", args.batch)
    print_rows(rows, facts)
    save_json(args, facts, rows)
    passed = []
    for row in rows:
        name = row["fastest_other"]
        fastest = row["engines"][name]
        low, high = fastest["spread"]
        note = f", in the rounds {low:.2f} to {high:.2f}"
        what = f"batch {row['batch']}, ratio to the fastest other ({name})"
        passed.append(at_least(what, fastest["ratio"], ASKED.get(row["batch"], 1), note=note))
    error = max(row["differences"]["resnet_np, torch"] for row in rows)
    passed.append(
        show("logits against torchvision's", f"{error:.1e}", f"{LOGITS}", error <= LOGITS)
    )
    real = real_data() is not None
    passed.append(show("weights", facts["weights"], "real, by RESNET_NP_TEST_DATA", real))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
