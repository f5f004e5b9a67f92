#!/bin/sh
# Runs a command where it can do no harm: network, mounts, processes, hostname, IPC and control groups of its own, and a
# root file system that is a copy on write of the machine's. Everything it started ends with it, and its groups go.
#
#   cell.sh DIRECTORY COMMAND…
#
# DIRECTORY (on a file system that overlayfs can lie on) is there inside as /cell, and keeps what is written there; the
# rest of what is written lies in DIRECTORY/.root and is deleted. CELL_VISIBLE names directories that are to be seen though
# they lie where the cell has something of its own (/tmp, /run); CELL_FROZEN_IMAGES is what lies at /docker-frozen-images.
set -eu

groups() { # control group hierarchies: mount point and file system options, a line each
  awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { if ($(i+1) ~ /^cgroup2?$/) print $5, $(i+1), $(i+3); break } }' \
    /proc/self/mountinfo
}

if [ "${CELL_PHASE:-}" != inside ]; then
  directory=$(realpath "$1")
  shift
  name=conformance-$$
  mkdir -p "$directory/.root/upper" "$directory/.root/work" "$directory/.root/merged" "$directory/tmp"
  chmod 1777 "$directory/tmp"
  groups | while read -r point type options; do
    mkdir "$point/$name"
    case $options in
      *cpuset*) # A new group of version 1 has no processors until it is told of some.
        cat "$point/cpuset.cpus" >"$point/$name/cpuset.cpus"
        cat "$point/cpuset.mems" >"$point/$name/cpuset.mems"
        ;;
      *memory*) echo 1 >"$point/$name/memory.use_hierarchy" 2>/dev/null || true ;;
    esac
  done
  child=
  leave() {
    # unshare itself takes no other signal, and takes all that it started with it.
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
    groups | while read -r point type options; do
      tries=0
      until find "$point/$name" -depth -type d -exec rmdir {} + 2>/dev/null || [ ! -d "$point/$name" ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || break
        sleep 0.1 # The kernel takes a while to empty the group of processes that were killed.
      done
    done
    rm -rf "$directory/.root" "$directory/tmp"
  }
  trap leave EXIT
  trap 'exit 143' INT TERM HUP
  # A process of its own joins the groups, so that this one can remove them.
  CELL_PHASE=inside CELL_DIRECTORY=$directory CELL_NAME=$name sh -c '
    awk "{ for (i = 7; i <= NF; i++) if (\$i == \"-\") { if (\$(i+1) ~ /^cgroup2?\$/) print \$5; break } }" \
      /proc/self/mountinfo | while read -r point; do echo $$ >"$point/$CELL_NAME/cgroup.procs"; done
    exec unshare --cgroup --net --mount --pid --uts --ipc --fork --kill-child=KILL --propagation private "$@"
  ' sh "$0" "$@" &
  child=$!
  code=0
  wait "$child" || code=$?
  exit "$code"
fi

directory=$CELL_DIRECTORY
root=$directory/.root/merged
hierarchies=$(groups)
mount -t overlay -o "lowerdir=/,upperdir=$directory/.root/upper,workdir=$directory/.root/work" overlay "$root"
mkdir -p "$root/cell" "$root/docker-frozen-images"
mount --bind "$directory" "$root/cell"
mount --bind "$directory/tmp" "$root/tmp"
if [ -n "${CELL_FROZEN_IMAGES:-}" ]; then
  mount --bind "$CELL_FROZEN_IMAGES" "$root/docker-frozen-images"
fi
for path in ${CELL_VISIBLE:-}; do
  mkdir -p "$root$path"
  mount --bind "$path" "$root$path"
done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
for var in lib/docker lib/sockerless lib/containerd log; do
  mkdir -p "$directory/var/$var" "$root/var/$var"
  mount --bind "$directory/var/$var" "$root/var/$var"
done
if [ "$(echo "$hierarchies" | wc -l)" -gt 1 ]; then
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
fi
echo "$hierarchies" | while read -r point type options; do
  mkdir -p "$root$point"
  case $type in
    cgroup2) mount -t cgroup2 cgroup2 "$root$point" ;;
    *) mount -t cgroup -o "$(echo "$options" | sed 's/^rw,\?//')" cgroup "$root$point" ;;
  esac
done
cd "$root"
mkdir -p .before
pivot_root . .before
umount -l /.before
rmdir /.before 2>/dev/null || true
mount --make-rshared /
hostname conformance
ip link set lo up
# Somewhere that is not loopback, behind which nobody is.
ip link add eth0 type veth peer name nobody
ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip link set nobody up
unset CELL_PHASE CELL_DIRECTORY CELL_NAME CELL_FROZEN_IMAGES CELL_VISIBLE
cd /cell
"$@"
