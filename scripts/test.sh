#!/usr/bin/env bash
# Check everything: ruff, mypy --strict, the whole test suite. Arguments go to pytest.
set -u

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment test
cd -- "$CHECKOUT" || exit 1

failed=''
step() {
    printf '\n== %s\n' "$1"
    "${@:2}" || failed="${failed:+$failed, }$1"
}

# Where nothing compiled may be kept, every process that a test starts compiles the package anew.
unset PYTHONDONTWRITEBYTECODE

step 'ruff check' python -m ruff check .
step 'ruff format --check' python -m ruff format --check .
# Beside mypy, which keeps one core busy: tests are compiled once, not by each of the four below.
python -m pytest --collect-only -qq >/dev/null 2>&1 &
step 'mypy --strict' python -m mypy
wait
# The tests wait more than they work: four at a time, on two cores as well.
step 'pytest' python -m pytest -n 4 --dist worksteal "$@"

[ -z "$failed" ] || _fail "failed: $failed"
