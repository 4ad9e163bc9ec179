#!/usr/bin/env bash
# Runs the tests with the oldest torch that pyproject.toml allows, and with every Python that the package promises and
# this machine has. One line a combination; exit code 1 if one fails. Each gets a virtual environment in .venv-matrix.
#
#   scripts/test_matrix.sh                      all of them
#   scripts/test_matrix.sh 3.10 2.6.0           one
#
# TORCH_INDEX  where torch's builds for the CPU are found; the index of PyPI would bring gigabytes of CUDA
# PYTEST       the tests to run, by default all that run without timm, torchvision and transformers
set -uo pipefail
cd "$(dirname "$0")/.."
TORCH_INDEX="${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
PYTEST="${PYTEST:-tests src -m 'not slow and not reference'}"
newest=$(sed -n 's/^torch==//p' constraints.txt)
oldest=$(sed -n 's/^ *"torch>=\([0-9.]*\)".*/\1.0/p' pyproject.toml)
failed=0

find_python() { # on the path, or among the versions of pyenv
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    if "$candidate" -c 'import sys' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

combination() {
  local version="$1" torch="$2" folder=".venv-matrix/py$1-torch$2" python log
  log="$folder.log"
  python=$(find_python "$version")
  if [ -z "$python" ]; then
    echo "Python $version, torch $torch: not tested, this Python is not on the machine"
    return
  fi
  mkdir -p .venv-matrix
  if ! [ -e "$folder/.ready" ]; then
    rm -rf "$folder"
    "$python" -m venv "$folder" || { failed=1; return; }
    if ! "$folder/bin/python" -m pip install -q "torch==$torch" --index-url "$TORCH_INDEX" >"$log" 2>&1; then
      echo "Python $version, torch $torch: not tested, torch cannot be installed from $TORCH_INDEX ($log)"
      return
    fi
    "$folder/bin/python" -m pip install -q -e . 'pytest>=8' pytest-timeout pytest-xdist 'hypothesis>=6.100' pillow pyyaml \
      >>"$log" 2>&1 || { echo "Python $version, torch $torch: FAILED to install ($log)"; failed=1; return; }
    touch "$folder/.ready"
  fi
  if eval "'$folder/bin/python' -m pytest -n 2 --dist worksteal $PYTEST" >"$log" 2>&1; then
    echo "Python $version, torch $torch: passed ($(tail -1 "$log"))"
  else
    echo "Python $version, torch $torch: FAILED ($log)"
    failed=1
  fi
}

if [ $# = 2 ]; then
  combination "$1" "$2"
else
  combination 3.11 "$oldest"
  combination 3.10 "$newest"
  combination 3.13 "$newest"
fi
exit $failed
