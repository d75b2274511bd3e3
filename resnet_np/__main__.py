"""The commands of the package, one line each: `python -m resnet_np`."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

from resnet_np.command import Parser, run_command

COMMANDS = (
    "finetune", "predict", "evaluate", "runs", "sweep", "lr_find", "doctor", "augment", "weights",
    "gradcheck",
)  # fmt: skip


def describe(command: str) -> str:
    """What a command does: the first words of its module, which is not run for that."""
    module = f"resnet_np.{command}"
    spec = find_spec(f"{module}.__main__" if command == "weights" else module)
    assert spec is not None and spec.origin is not None
    page = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""
    return page.partition("\n")[0].partition(": `")[0].rstrip(".")


def main() -> None:
    """Print the list. Raises UserError for any argument."""
    epilog = "Say python -m resnet_np.COMMAND --help for what a command can do."
    Parser(
        prog="python -m resnet_np",
        description="Show the commands of resnet_np, with what each does.",
        epilog=epilog,
    ).parse_args()
    for command in COMMANDS:
        print(f"python -m resnet_np.{command:10}  {describe(command)}")
    print(epilog)


if __name__ == "__main__":
    sys.exit(run_command(main))
