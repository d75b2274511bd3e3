"""How much is there to read?

    python benchmarks/acceptance/07_reading.py

Counts code lines with Python's tokenizer: physical lines that hold a token other than a comment or
a docstring. A line of more than 100 columns is an error, so that nothing is won by writing wide.
autograd/, nn/ and models/ together may have 2,000, models/resnet.py 200. Exits with 1 if not.
"""

import ast
import sys
import tokenize
from pathlib import Path

COLUMNS = 100
PACKAGE = Path(__file__).parents[2] / "resnet_np"
LIMITS = {("autograd", "nn", "models"): 2000, ("models/resnet.py",): 200}
NOT_CODE = {
    tokenize.ENCODING,
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(file: Path) -> int:
    """How many physical lines of a file hold code. Raises ValueError where one is too wide."""
    text = file.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > COLUMNS:
            raise ValueError(f"{file}:{number} has {len(line)} columns; {COLUMNS} are allowed")
    docstrings = {
        (node.lineno, node.col_offset)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    lines: set[int] = set()
    with file.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type not in NOT_CODE and token.start not in docstrings:
                lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def count(*parts: str) -> dict[str, int]:
    """Code lines of each file below these folders or files of the package."""
    files = [
        file
        for part in parts
        for file in (sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / part])
    ]
    return {str(file.relative_to(PACKAGE)): code_lines(file) for file in files}


def main() -> int:
    failed = False
    for parts, limit in LIMITS.items():
        files = count(*parts)
        for name, lines in files.items():
            print(f"{name:28} {lines:5}")
        total = sum(files.values())
        failed |= total > limit
        print(f"{' + '.join(parts):28} {total:5}  of at most {limit}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
