# Cleans up after a lab when the process that made it is gone, however it went:
# that process holds the other end of standard input.
# Arguments: the lab's folder, whose name also begins the names of its cgroups.
lab=$1
trap '' HUP INT TERM
cat >/dev/null
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40; do
  left=
  for group in /sys/fs/cgroup/"${lab##*/}"-* /sys/fs/cgroup/*/"${lab##*/}"-*; do
    [ -d "$group" ] || continue
    [ ! -e "$group/cgroup.kill" ] || echo 1 >"$group/cgroup.kill"
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || left=yes
  done
  [ -n "$left" ] || break
  sleep 0.1
done
for image in "$lab"/*/*.img; do
  [ ! -e "$image" ] || losetup -j "$image" -n -O NAME | xargs -r -n 1 losetup -d
done
rm -rf "$lab"
