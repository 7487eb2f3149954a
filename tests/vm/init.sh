# shellcheck shell=sh
# The first process of the machine: prepares it, runs the program, switches it off.
# What stands before this was written by run.sh.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
for module in /modules/*; do
    insmod "$module" || echo "vm: $module cannot be loaded"
done
ip link set lo up
# The most that setrlimit(2) allows anybody, and that there is in all.
echo 1048576 >/proc/sys/fs/nr_open
echo 2097152 >/proc/sys/fs/file-max
ulimit -n 1048576
echo "vm: Linux $(uname -r)"
# shellcheck disable=SC2086,SC2154
if /program $arguments; then
    echo 'vm: passed'
else
    echo 'vm: FAILED'
fi
poweroff -f
