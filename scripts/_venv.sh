# Sourced by the scripts beside it: makes .venv and installs the package into it, when needed.
# PYTHON names the interpreter (default python3), for instance PYTHON=python3.13 scripts/test.

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$REPO/.venv"

SHOW_VERSION='import sys; print("%d.%d.%d" % sys.version_info[:3])'

fail() {
    echo "error: $*" >&2
    exit 1
}

# Sets PYTHON_VERSION; stops where the interpreter is missing, too old or cannot make environments.
check_python() {
    PYTHON="${PYTHON:-python3}"
    PYTHON_VERSION="$("$PYTHON" -c "$SHOW_VERSION")" ||
        fail "cannot run '$PYTHON': set PYTHON to a Python of version 3.11 or newer"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "'$PYTHON' is Python $PYTHON_VERSION, but 3.11 or newer is needed: set PYTHON=python3.11 or newer"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "'$PYTHON' has no venv module: install it (on Debian and Ubuntu the package python3-venv)"
}

# ensure_venv EXTRAS: EXTRAS is a comma-separated list of the package's extras, or empty.
# The stamp says what is installed: line 1 a hash of pyproject.toml and of the folder (which an
# editable install points to), line 2 the extras. Extras of earlier calls are kept, so that
# scripts can take turns without installing again.
ensure_venv() {
    local wanted="$1" stamp="$VENV/.nnmm-stamp" hash old_hash="" installed="" old_version
    check_python
    hash="$("$PYTHON" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.argv[2].encode()).hexdigest())' \
        "$REPO/pyproject.toml" "$REPO")"
    if [[ -e "$VENV" ]]; then
        old_version="$("$VENV/bin/python" -c "$SHOW_VERSION" 2>/dev/null || echo "that does not run")"
        if [[ "$old_version" != "$PYTHON_VERSION" ]]; then
            echo "== .venv has a Python $old_version, '$PYTHON' is $PYTHON_VERSION: making it anew" >&2
            rm -rf "$VENV"
        fi
    fi
    if [[ -f "$stamp" ]]; then
        { read -r old_hash && read -r installed; } <"$stamp" || true
        if [[ "$old_hash" == "$hash" ]] && includes "$installed" "$wanted"; then
            return
        fi
    fi
    wanted="$(join_extras "$installed" "$wanted")"
    echo "== installing nnmm_jax${wanted:+[$wanted]} into .venv (minutes, the first time)" >&2
    rm -f "$stamp"
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check -e "$REPO${wanted:+[$wanted]}"
    printf '%s\n%s\n' "$hash" "$wanted" >"$stamp"
}

# includes HAVE WANTED: is every extra of WANTED in HAVE?
includes() {
    local extra
    for extra in ${2//,/ }; do
        [[ ",$1," == *",$extra,"* ]] || return 1
    done
}

join_extras() {
    tr ',' '\n' <<<"$1,$2" | sed '/^$/d' | sort -u | paste -sd, -
}
