#!/bin/sh
# guest_kernel.sh: a Debian kernel for the virtual machine of tests/live, downloaded and unpacked, not installed: into FOLDER (default: the
# user's cache) go vmlinuz and the modules that the guest loads. Does nothing when they are there. Needs apt and dpkg, not root.
set -eu
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/cansight/guest-kernel}
[ ! -e "$folder/vmlinuz" ] || exit 0
fail() { printf 'cansight: %s\n' "$1" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || fail "the guest runs this machine's Python: only x86_64 is prepared, this is $(uname -m)"
package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
[ -n "$package" ] || fail "apt knows no kernel package (linux-image-amd64)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own where it can
(cd "$work" && apt-get -qq download "$package") >"$work/log" 2>&1 || fail "$package cannot be downloaded: $(grep '^E:' "$work/log" | tail -n 1)"
dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work" --wildcards './boot/vmlinuz-*' \
  '*/kernel/net/can/*' '*/kernel/drivers/net/can/*' '*/kernel/net/9p/*' '*/kernel/fs/9p/*' '*/kernel/fs/netfs/*' '*/kernel/fs/fscache/*' \
  '*/kernel/drivers/virtio/*' 2>"$work/log" || [ -n "$(ls "$work"/boot/vmlinuz-* 2>/dev/null)" ] || fail "$package cannot be unpacked: $(tail -n 1 "$work/log")"
mkdir -p "$folder.new/modules"
find "$work" -name '*.ko*' -exec cp {} "$folder.new/modules/" \;
cp "$work"/boot/vmlinuz-* "$folder.new/vmlinuz"
rm -rf "$folder" && mv "$folder.new" "$folder"
