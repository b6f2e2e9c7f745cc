#!/bin/sh
# services.sh: installs the servers that the tests talk to, from Debian packages, where that is possible (root or passwordless sudo, and apt).
# Where it is not, it names the suites that are left out. The servers are only installed here: the tests start their own, unprivileged,
# in temporary folders, on free loopback ports.
set -eu
export DEBIAN_FRONTEND=noninteractive
PATH=$PATH:/usr/sbin:/usr/lib/postgresql/15/bin:/usr/lib/postgresql/17/bin

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need mosquitto mosquitto
need influxd influxdb
need victoria-metrics victoria-metrics
need postgres postgresql
need promtool prometheus
need chromium chromium
need qemu-system-x86_64 qemu-system-x86
# A busybox that is linked to libraries cannot start the virtual machine of tests/live.
! head -c 4096 "$(command -v busybox || echo /dev/null)" | grep -q ld-linux && command -v busybox >/dev/null 2>&1 || missing="$missing busybox-static"

as_root=
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root='sudo -n'; else as_root=none; fi
fi

# The virtual machine of tests/live needs a kernel, which is downloaded and not installed: no root, but apt's lists must be there.
guest_kernel() {
  [ "${CANSIGHT_INSTALL_SERVICES:-yes}" != no ] || return 0
  deploy=$(dirname "$0")
  "$deploy/guest_kernel.sh" 2>/dev/null && return 0
  if [ "$as_root" != none ]; then $as_root apt-get -qq update >/dev/null 2>&1 || true; fi
  "$deploy/guest_kernel.sh" && return 0
  echo 'Left out: the suite on a real SocketCAN (no kernel for its virtual machine).'
  [ "${CI:-}" != true ]
}
if [ -z "$missing" ]; then guest_kernel; exit; fi

if [ "${CANSIGHT_INSTALL_SERVICES:-yes}" = no ] || [ "$as_root" = none ] || ! command -v apt-get >/dev/null 2>&1; then
  printf 'Left out: the suites that need%s (not installed, and this user cannot install them here).\n' "$missing"
  [ "${CI:-}" != true ] || { printf 'cansight: under CI=true no suite may be left out; missing:%s\n' "$missing" >&2; exit 1; }
  exit 0
fi
printf 'Installing from Debian packages for the tests:%s\n' "$missing"
log=$(mktemp)
# A package's own service must not start: the tests run theirs on free ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
  $as_root chmod 755 $policy
  trap '$as_root rm -f $policy; rm -f "$log"' EXIT
fi
# shellcheck disable=SC2086  # $missing is a list
if ! { $as_root apt-get -qq update && $as_root apt-get -qq install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  printf 'Left out: the suites that need%s (apt: %s)\n' "$missing" "$(grep '^E:' "$log" | tail -n 1)"
  [ "${CI:-}" != true ] || exit 1
fi
guest_kernel
