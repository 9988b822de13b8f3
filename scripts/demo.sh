#!/usr/bin/env bash
# The whole thing without Binance: a simulated exchange, the collector, bars printed as they close.
set -u

usage() {
    cat <<'USAGE'
usage: demo.sh [SECONDS]

Make the virtual environment of this checkout, then `bintrades demo`: a simulated exchange and a
collector on this machine, whose 10-second bars are printed as they close for SECONDS (default 35).
Needs no network once the environment is made, no database and no configuration, and leaves nothing
behind.
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment simulator
exec "$VIRTUAL_ENV/bin/python" -P -m bintrades demo "$@"
