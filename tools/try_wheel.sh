#!/usr/bin/env bash
# Build the source distribution and from it the wheel, and try the wheel in an environment that has nothing else: its
# size, every command's help, and both embedded models. Usage: tools/try_wheel.sh [FOLDER], which gets the two files.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dist=$(realpath -m "${1:-$work/dist}")
largest=$((30 * 1000 * 1000)) # bytes

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check build
"$work/venv/bin/python" -m build --outdir "$dist" "$root"
wheel=$(ls "$dist"/jaxalign-*.whl)
size=$(stat --format=%s "$wheel")
echo "$(basename "$wheel"): $size bytes"
if ((size > largest)); then
  echo "the wheel has $size bytes; expected at most $largest" >&2
  exit 1
fi

"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel"
cd "$work" # away from the sources
export HOME=$work
jaxalign=$work/venv/bin/jaxalign
"$jaxalign" --help >help.txt
# Every command that the help names.
"$work/venv/bin/python" - <<'PYTHON' | while read -r command; do "$jaxalign" "$command" --help >"$command.txt"; done
from jaxalign.eval.cli import COMMANDS

print("\n".join(COMMANDS))
PYTHON
"$work/venv/bin/python" - <<'PYTHON'
import jaxalign as ja

for name in ("emoji-clip", "emoji-siglip"):
    model = ja.load(name)
    print(name, model.encode_text(["a goose"]).shape)
PYTHON
"$jaxalign" spectrum --out runs >spectrum.txt 2>&1 || {
  cat spectrum.txt
  exit 1
}
echo "every command's help, both embedded models and one command: as they should be"
