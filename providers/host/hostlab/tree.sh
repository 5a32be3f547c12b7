#!/bin/sh
# tree.sh DIR: makes a minimal Debian system in DIR, the common disk of the lab's
# machines. Needs root, mmdebstrap and the machine's own Debian mirror.
set -eu
tree=$1 suite=${SUITE:-bookworm}
[ ! -e "$tree" ] || { echo "$tree is there already" >&2; exit 1; }
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)
packages=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo
packages=$packages,iproute2,nftables,e2fsprogs,xfsprogs,procps,ca-certificates

# Documentation is left out to be smaller. Identities are made for each machine.
# The masked units mean nothing without a clock, disks and modules of one's own.
mmdebstrap --quiet --variant=minbase --include="$packages" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook='
    cd "$1"
    rm -rf etc/ssh/ssh_host_* etc/machine-id var/lib/dbus/machine-id
    : >etc/machine-id; : >etc/default/locale; mkdir -p var/log/journal
    for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
      fstrim.timer systemd-modules-load.service sys-kernel-debug.mount sys-kernel-tracing.mount \
      sys-kernel-config.mount dev-hugepages.mount; do
      ln -sf /dev/null "etc/systemd/system/$u"
    done' \
  "$suite" "$tree.new" "$mirror"
mv "$tree.new" "$tree"
