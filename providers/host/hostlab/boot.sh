# Boots one machine, in a mount namespace of its own, and ends when it does; the
# exit status 133 says that the machine asked for a reboot.
# Arguments: TREE HOME NETNS NAME, then the machine's cgroups.
# HOME/binds holds one more option of systemd-nspawn a line.
set -eu
tree=$1 home=$2 net=$3 name=$4
shift 4
for group; do echo $$ >"$group/cgroup.procs"; done
mount --make-rprivate /
# After a power cut the kernel may still be closing the last boot's disk.
for i in 1 2 3 4 5 6 7 8 9 0; do
  if mount -t overlay "$name" -o "lowerdir=$tree,upperdir=$home/disk,workdir=$home/work" "$home/root"; then break; fi
  [ "$i" != 0 ] || exit 1
  sleep 0.2
done
set --
while read -r option; do set -- "$@" "$option"; done <"$home/binds"
# No machined and no D-Bus here: --register=no --keep-unit. The machine sees the
# unified cgroups of any current system, may set net.* but no other sysctls, and
# keeps the capabilities that a virtual machine's root has (nftables) and bpf,
# without which IPAddressDeny= and the like are silently ignored.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_LOG_LEVEL=warning
exec systemd-nspawn --boot --quiet --directory="$home/root" --machine="$name" --register=no --keep-unit \
  --resolv-conf=off --timezone=off --link-journal=no --capability=all --system-call-filter=bpf \
  --network-namespace-path="$net" --console=pipe "$@"
