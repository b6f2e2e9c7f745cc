#!/bin/sh
# setup.sh run|dev: makes .venv with the locked packages and this project in it. Needs Python 3.11+ and a package index; no root, no compiler.
# PYTHON=/path/to/python3 chooses the interpreter. Does nothing when .venv already holds what the locks name.
set -eu
cd "$(dirname "$0")/.."
profile=${1:-run}
lock=deploy/locks/$profile.txt
stamp=.venv/.installed-$profile
fail() { printf 'cansight: %s\n' "$1" >&2; exit 2; }

wanted=$(cat "$lock" pyproject.toml | cksum)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && [ -x .venv/bin/python ] && exit 0

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  if command -v "$candidate" >/dev/null 2>&1; then
    found="$candidate is $("$candidate" --version 2>&1)"
    if "$candidate" -c "$new_enough" 2>/dev/null; then python=$candidate; break; fi
  fi
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed; ${found:-${PYTHON:-python3} is not there}. Install one, or name it: make PYTHON=/path/to/python3"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python has no venv module, which the installation needs. On Debian and Ubuntu: apt install python3-venv"

if ! .venv/bin/python -c "$new_enough" 2>/dev/null; then
  rm -rf .venv
  "$python" -m venv .venv >/dev/null || fail "$python could not make the virtual environment .venv; is the disk full or the folder read-only?"
fi
log=.venv/setup.log
printf 'Installing the packages of %s into .venv (log: %s)\n' "$lock" "$log"
# The lock names every file's hash, so what is installed is what was tested; --only-binary: there is no compiler on a telematics unit.
if ! .venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps --require-hashes --only-binary :all: \
    --retries 2 -r "$lock" >"$log" 2>&1; then
  reason=$(grep '^ERROR' "$log" | tail -n 1)
  fail "the packages could not be installed; is a package index in reach? ${reason:-See $log} (whole log: $log)"
fi
.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --no-index --editable . >>"$log" 2>&1 ||
  fail "this project could not be installed into .venv: $(grep '^ERROR' "$log" | tail -n 1) (whole log: $log)"
printf '%s\n' "$wanted" >"$stamp"
