#!/bin/bash
# Boots Debian with systemd in a container, then installs, starts, upgrades under load, removes and purges.
#
#     src/dist/debian/try.sh target/debian/tcprelay_*.deb
#
# Needs root, mmdebstrap and systemd-nspawn. The container's only network is its loopback interface.
set -euo pipefail

package=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
box=$(mktemp -d)
trap 'rm -rf "$box"' EXIT

mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,procps,python3-minimal,libpython3-stdlib \
    bookworm "$box/root"
cp "$package" "$box/root/root/old.deb"
# The upgrade is the same package with a later version.
dpkg-deb -R "$package" "$box/new"
sed -i 's/^Version: .*/&+upgrade/' "$box/new/DEBIAN/control"
dpkg-deb --root-owner-group -b "$box/new" "$box/root/root/new.deb" > /dev/null
install "$here/try/scenario.sh" "$here/try/load.py" "$box/root/root/"
cat > "$box/root/etc/systemd/system/scenario.service" << 'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'timeout 240 /root/scenario.sh > /root/report 2>&1 && touch /root/passed'
ExecStopPost=/bin/systemctl --no-block poweroff
UNIT
mkdir -p "$box/root/etc/systemd/system/default.target.wants"
ln -s ../scenario.service "$box/root/etc/systemd/system/default.target.wants/"
# The container does not get the host's resolv.conf, because it looks up no names.
timeout 300 systemd-nspawn --quiet --directory "$box/root" --register=no --keep-unit --private-network \
    --resolv-conf=off --link-journal=no --boot > "$box/boot" 2>&1 < /dev/null || true
cat "$box/root/root/report" || tail -n 40 "$box/boot"
test -e "$box/root/root/passed"
