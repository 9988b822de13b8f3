#!/usr/bin/env bash
# The whole thing without Binance: a simulated exchange, the collector, bars printed as they close.
set -u

usage() {
    cat <<'USAGE'
usage: demo.sh [SECONDS]

Start a simulated exchange and a collector on this machine, print the 10-second bars as they
close for SECONDS (default 35), and stop both. Needs no network once the virtual environment is made, no
database and no configuration, and leaves nothing behind.
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
seconds=${1-35}
if [ $# -gt 1 ] || ! [[ $seconds =~ ^[1-9][0-9]{0,5}$ ]]; then
    usage >&2
    exit 2
fi

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment simulator
# Not before: bash 5 ends on a missing file in $(<file) under -e, even where || follows it.
set -euo pipefail

folder=$(mktemp -d)
simulator=''
collector=''

say() {
    printf '\n%s\n' "$*"
}

# Ask the process $1 to stop and set status to its exit status; one that does not go is killed.
stop() {
    local waited=0
    status=0
    kill -TERM "$1" 2>/dev/null || true
    while kill -0 "$1" 2>/dev/null && [ "$waited" -lt 150 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || status=$?
}

clean_up() {
    trap '' INT TERM
    [ -z "$collector" ] || stop "$collector"
    [ -z "$simulator" ] || stop "$simulator"
    rm -rf -- "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# End the demonstration with the last lines of the file $2 if the process $1 is gone.
must_run() {
    kill -0 "$1" 2>/dev/null && return
    say "the $3 has ended:" >&2
    tail -n 20 -- "$2" >&2
    exit 1
}

# Print what follows the word $1 in the simulator's output, once it is there.
wait_for() {
    local found
    while :; do
        found=$(sed -n "s/^$1: //p" "$folder/simulator.out")
        if [ -n "$found" ]; then
            printf '%s\n' "$found"
            return
        fi
        must_run "$simulator" "$folder/simulator.out" simulator
        sleep 0.1
    done
}

# In the background a function would be a subshell of its own, which signals would not pass.
"$VIRTUAL_ENV/bin/python" -P -m bintrades simulate --symbols BTCUSDT,ETHUSDT \
    --stream-port 0 --rest-port 0 --rate 40 >"$folder/simulator.out" 2>&1 &
simulator=$!
stream_url=$(wait_for streams)
rest_url=$(wait_for rest)
say "A simulated exchange trades BTCUSDT and ETHUSDT: streams at $stream_url, REST at $rest_url"

cat >"$folder/demo.ini" <<INI
[binance]
stream_url = $stream_url
rest_url = $rest_url

[symbols]
include = BTCUSDT, ETHUSDT

[journal]
path = $folder/bintrades.journal

[stores]
enabled =

[http]
listen =

[logging]
format = text
INI
"$VIRTUAL_ENV/bin/python" -P -m bintrades run --config "$folder/demo.ini" \
    >"$folder/collector.log" 2>&1 &
collector=$!
say "The collector records them; a bar is printed when its 10 seconds are over, for $seconds s."

print_bars() {
    local symbol
    for symbol in BTCUSDT ETHUSDT; do
        printf '\n%s\n' "$symbol"
        "$VIRTUAL_ENV/bin/python" -P -m bintrades bars "$symbol" --config "$folder/demo.ini" --last 10m
    done
}

end=$((SECONDS + seconds))
shown=''
while [ "$SECONDS" -lt "$end" ]; do
    sleep 1
    must_run "$simulator" "$folder/simulator.out" simulator
    must_run "$collector" "$folder/collector.log" collector
    [ -e "$folder/bintrades.journal" ] || continue
    bars=$(print_bars 2>/dev/null) || continue
    # A bar that has not closed yet is marked with a plus sign and changes all the time.
    closed=$(grep -E '^[0-9-]+ [0-9:]+[*]? ' <<<"$bars") || continue
    if [ "$closed" != "$shown" ]; then
        shown=$closed
        printf '%s\n' "$bars"
    fi
done

say 'Stopping the collector in an orderly way: the open bars are written, too.'
stop "$collector"
collector=''
if [ "$status" != 0 ]; then
    say "the collector ended with status $status:" >&2
    tail -n 20 -- "$folder/collector.log" >&2
    exit 1
fi
print_bars
say 'That was all. With Binance itself: scripts/run_collector.sh'
