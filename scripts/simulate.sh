#!/usr/bin/env bash
# Let the collector live through simulated accidents (tests/simulation).
#
#     scripts/simulate.sh [--seeds N] [--first S] [--kinds] [--jobs N]    many worlds; 1 if any goes wrong
#     scripts/simulate.sh --seed S                                        one of them, step by step
set -u

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment test
cd -- "$CHECKOUT" || exit 1
export PYTHONHASHSEED=0
exec python -m tests.simulation "$@"
