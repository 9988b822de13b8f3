#!/usr/bin/env bash
# Install what is missing, then become the collector.
set -u

usage() {
    cat <<'USAGE'
usage: run_collector.sh [FILE]

Collect the trades of the configured symbols until SIGTERM or SIGINT (Ctrl-C), or until the terminal
closes. SIGHUP has the symbols of the configuration read again, while everything goes on.

  FILE    the configuration; without it, etc/bintrades.ini of this checkout

The first run makes a virtual environment (.venv in the checkout, or BINTRADES_VENV) and installs
the package; later runs start at once. Needs python3 3.11 or newer, nothing else.

Exit status: 0 after an orderly stop, 1 a failure while running, 2 bad configuration or command line.
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
    -*)
        usage >&2
        exit 2
        ;;
esac
if [ $# -gt 1 ]; then
    usage >&2
    exit 2
fi

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment
# -P: a folder named like one of our modules, where the caller happens to be, is not ours.
exec "$VIRTUAL_ENV/bin/python" -P -m bintrades run --config "${1:-$CHECKOUT/etc/bintrades.ini}"
