# To be sourced by bash. Defines use_environment, which every script here begins with:
#
#     use_environment [EXTRA...]
#
# makes a virtual environment in the checkout on first use, installs the package (editable) with the
# extras of setup.cfg that are named, and puts it first on PATH. It installs nothing while setup.cfg,
# setup.py, pyproject.toml, the Python and the extras are as they were, repairs an installation
# that was interrupted, and may be called by several processes at once. It ends the script with
# status 1 and a message if there is no usable Python or the installation fails.
#
# uv does it where it is on PATH, in a tenth of the time; pip where uv is not there or fails, and
# where pip alone has been told where packages come from (PIP_*, pip.conf), which uv does not hear.
#
#     BINTRADES_VENV         where the environment is instead of .venv in the checkout
#     BINTRADES_INSTALLER    uv or pip: which of them, whatever pip has been told
# shellcheck shell=bash

CHECKOUT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 1
readonly CHECKOUT
# What pip says where it cannot reach its index; one that it can reach has some version of everything.
readonly NETWORK_TROUBLE='from versions: none|onnection broken|ConnectionPool|imed out|certificate verify'

_say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

_fail() {
    _say "$@"
    exit 1
}

# Print the path of the first Python that has the modules $1, or say what is missing.
_find_python() {
    local candidate path without_venv=''
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        # Run it: what a version manager puts on PATH may be a stand-in for nothing.
        path=$(cd -- "$CHECKOUT" && "$candidate" -I -c '
import sys
if sys.version_info < (3, 11): sys.exit(1)
print(sys.executable)' 2>/dev/null) || continue
        if "$path" -I -c "import $1" 2>/dev/null; then
            printf '%s\n' "$path"
            return
        fi
        without_venv=${without_venv:-$path}
    done
    [ -z "$without_venv" ] || _fail "$without_venv lacks the modules ${1/, / and }." \
        "On Debian and Ubuntu: apt install python3-venv"
    _fail 'Python 3.11 or newer is needed, and no such python3 is on PATH.' \
        'On Debian and Ubuntu: apt install python3 python3-venv; elsewhere: https://www.python.org/downloads/'
}

# Wait until no other process installs into the environment; held as long as descriptor 9 is open.
_lock() {
    exec 9>"$1/.bintrades.lock" || _fail "cannot write to $1"
    "$2" -I -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("waiting for the installation that another process has begun", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)'
}

# Print what an installation depends on; nothing if there is no working Python in the environment.
_fingerprint() {
    "$1/bin/python" -I -c 'import sys; print(sys.version, sys.prefix, sep="\n")' 2>/dev/null || return
    printf '%s\n' "$CHECKOUT"
    cat -- "$CHECKOUT/setup.cfg" "$CHECKOUT/setup.py" "$CHECKOUT/pyproject.toml"
}

# Whether the environment is finished, as it should be now, and has every extra of $2.
_is_current() {
    local stamp extras extra
    { stamp=$(<"$1/.bintrades.stamp"); } 2>/dev/null || return 1
    extras=${stamp%%$'\n'*}
    [ "${stamp#*$'\n'}" = "$(_fingerprint "$1")" ] || return 1
    for extra in $2; do
        [[ " $extras " == *" $extra "* ]] || return 1
    done
}

# Print the extras of $2 and those installed before, each once.
_all_extras() {
    local extras='' extra before=''
    { read -r before <"$1/.bintrades.stamp"; } 2>/dev/null
    for extra in $before $2; do
        [[ " $extras " == *" $extra "* ]] || extras="${extras:+$extras }$extra"
    done
    printf '%s\n' "$extras"
}

# Whether uv is to be tried first.
_prefers_uv() {
    case ${BINTRADES_INSTALLER-} in
        uv) ;;
        pip) return 1 ;;
        '')
            ! compgen -e PIP_ | grep -qE 'INDEX|LINKS|CERT|PROXY|CONSTRAINT' || return 1
            ! grep -qsE '(index|links|cert|proxy|constraint).*=' /etc/pip.conf /etc/xdg/pip/pip.conf \
                "${HOME-}/.config/pip/pip.conf" "${HOME-}/.pip/pip.conf" || return 1
            ;;
        *) _fail "BINTRADES_INSTALLER=$BINTRADES_INSTALLER: allowed are uv and pip" ;;
    esac
    uv --version >/dev/null 2>&1
}

# Whether the environment has the modules $2; one that we left half-installed is not trusted.
_is_usable() {
    [ -e "$1/.bintrades.stamp" ] || [ ! -e "$1/.bintrades.made" ] || return 1
    "$1/bin/python" -I -c "import $2, sys; sys.exit(sys.prefix == sys.base_prefix)" 2>/dev/null
}

# Make an empty virtual environment in the place of a broken one, and of nothing else. $3: options.
_make() {
    [ -e "$1/.bintrades.made" ] || [ -e "$1/pyvenv.cfg" ] ||
        [ -z "$(find "$1" -mindepth 1 ! -name .bintrades.lock)" ] ||
        _fail "$1 holds other things than a virtual environment: empty it, or choose another BINTRADES_VENV"
    # First the mark that all that follows is ours: whoever finds it after a kill may clear it away.
    : >"$1/.bintrades.made"
    _say "making a virtual environment with $2 in $1"
    find "$1" -mindepth 1 -maxdepth 1 ! -name '.bintrades.*' -exec rm -rf -- {} +
    "$2" -I -m venv "${@:3}" "$1" >&2 || _fail "$2 could not make a virtual environment"
}

# Let the program that follows $1, the environment, install $target; its output goes to a log.
_run_installer() {
    local log=$1/.bintrades.log
    rm -f -- "$1/.bintrades.stamp"
    "${@:2}" --editable "$target" >"$log" 2>&1 || {
        cat -- "$log" >&2
        return 1
    }
}

_install_with_uv() {
    _is_usable "$1" sys || _make "$1" "$2" --without-pip
    _say "installing bintrades${target#.} into $1 with uv; the first time takes some seconds"
    _run_installer "$1" env -u UV_SYSTEM_PYTHON -u UV_TARGET -u UV_PREFIX uv pip install --quiet \
        --python "$1/bin/python" --reinstall-package bintrades
}

_install_with_pip() {
    _is_usable "$1" pip || _make "$1" "$2"
    _say "installing bintrades${target#.} into $1; the first time takes a minute or two"
    _run_installer "$1" env PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$1/bin/python" -I -m pip install \
        --quiet --disable-pip-version-check --no-input --use-pep517 || {
        ! grep -qE "$NETWORK_TROUBLE" "$1/.bintrades.log" ||
            _say 'no network? Packages come from the index of Python packages over HTTPS; behind a proxy' \
                'set HTTPS_PROXY, and for a mirror PIP_INDEX_URL. Then start this again: it goes on from here'
        _fail 'the installation failed, for the reason that pip gives above'
    }
}

# Make or mend the environment $1 with the extras $2. Runs in a subshell, which holds the lock.
_install() {
    local environment=$1 python extras target prefers_uv='' needed='venv, ensurepip'
    ! _prefers_uv || { prefers_uv=yes && needed=venv; }
    python=$(_find_python "$needed") || exit 1
    mkdir -p -- "$environment" 2>/dev/null && [ -w "$environment" ] && [ -w "$CHECKOUT" ] ||
        _fail "cannot write to $environment or $CHECKOUT, where the virtual environment and the" \
            'package are installed: make them writable, or clone to a folder of your own'
    _lock "$environment" "$python" || exit 1
    ! _is_current "$environment" "$2" || return 0

    extras=$(_all_extras "$environment" "$2")
    target=.${extras:+[${extras// /,}]}
    cd -- "$CHECKOUT" || exit 1
    if [ -z "$prefers_uv" ]; then
        _install_with_pip "$environment" "$python"
    elif ! _install_with_uv "$environment" "$python"; then
        _say 'uv has failed, for the reason that it gives above: trying pip'
        python=$(_find_python 'venv, ensurepip') || exit 1
        _install_with_pip "$environment" "$python"
    fi
    { printf '%s\n' "$extras" && _fingerprint "$environment"; } >"$environment/.bintrades.new"
    mv -- "$environment/.bintrades.new" "$environment/.bintrades.stamp"
}

use_environment() {
    local environment=${BINTRADES_VENV:-$CHECKOUT/.venv}
    [[ $environment == /* ]] || environment=$PWD/$environment
    [[ $environment != *'$'* ]] ||
        _fail "pip cannot install into a folder with a \$ in its path: $environment." \
            'Name another with BINTRADES_VENV, or clone to a path without a $'
    # What an activated environment or a user's pip configuration would redirect.
    unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT

    _is_current "$environment" "$*" || (_install "$environment" "$*") || exit 1
    export VIRTUAL_ENV=$environment PATH="$environment/bin:$PATH"
    hash -r
}
