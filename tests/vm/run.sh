#!/bin/sh
# Runs network tests, or rows of the bench, in a virtual machine of their own, in which
# there is no limit of open files that only the host's administrator can raise, and on a
# kernel that may be another than the host's. It takes no root and no virtualization by
# the processor: the machine is emulated, and some thirty times as slow.
#
#   KERNEL   a package of Debian's with a kernel, or its file (.deb)
#   MEMORY   of the machine, in MiB
#   TESTS    arguments for the tests
#   BENCH    arguments for the bench, which runs in place of the tests
#   PROFILE  of cargo's, in place of release: explore is quicker to build
#   ZPA_*    are handed on to what runs
set -eu

target=x86_64-unknown-linux-musl
place=target/vm
memory=${MEMORY:-8192}
bench=${BENCH:-}
arguments=${bench:-${TESTS:---test-threads=4}}
profile=${PROFILE:-release}
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "make vm: $1" >&2
    exit 1
}

for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio \
    modprobe:kmod xz:xz-utils ip:iproute2 nft:nftables dpkg-deb:dpkg; do
    command -v "${pair%%:*}" >/dev/null ||
        fail "${pair%%:*} is not there (Debian: ${pair##*:})"
done

# The package that Debian's newest kernel of the release is in.
newest_kernel() {
    apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }'
}

# Unpacks the kernel that is asked for; prints where.
unpack_kernel() {
    package=${KERNEL:-$(newest_kernel)}
    [ -n "$package" ] || fail 'linux-image-cloud-amd64 is not known; apt-get update, or KERNEL='
    name=$(basename "$package" .deb)
    if [ ! -d "$place/$name" ]; then
        case $package in
        *.deb) deb=$package ;;
        *)
            (cd "$place" && apt-get download -qq "$package") >&2
            deb=$(ls -t "$place/$package"_*.deb | head -n 1)
            ;;
        esac
        dpkg-deb --extract "$deb" "$place/$name.part"
        depmod --basedir "$place/$name.part" "$(ls "$place/$name.part/lib/modules")"
        mv "$place/$name.part" "$place/$name"
    fi
    echo "$place/$name"
}

# The tests or the bench, linked statically: the machine has no C library for them.
build() {
    command -v musl-gcc >/dev/null || export CC_x86_64_unknown_linux_musl=gcc
    [ -n "$bench" ] && what='bench --bench bench' || what='test --test net'
    # shellcheck disable=SC2086
    cargo $what --locked --profile "$profile" --target "$target" --no-run \
        --message-format=json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\/\(net\|bench\)-[^"]*\)".*/\1/p'
}

# Copies files to where they are here.
copy_files() {
    for file in "$@"; do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
}

# Copies a program with the libraries that it asks for to where it is here.
copy_program() {
    program=$(command -v "$1")
    # shellcheck disable=SC2046
    copy_files "$program" $(ldd "$program" | grep -o '/[^ ]*')
}

# Copies those proxies with which the bench compares, as far as they are installed.
copy_other_proxies() {
    for program in haproxy nginx; do
        ! command -v "$program" >/dev/null || copy_program "$program"
    done
    # nginx looks up the user whom it would become, and loads its stream module.
    for file in /etc/passwd /etc/group /usr/lib/nginx/modules/ngx_stream_module.so \
        /usr/share/nginx/modules/ngx_stream_module.so; do
        [ ! -e "$file" ] || copy_files "$file"
    done
}

# Copies the modules for the network, unpacked, into one folder, in the order in
# which they are to be loaded.
copy_modules() {
    release=$(ls "$kernel/lib/modules")
    mkdir -p "$root/modules"
    modprobe --dirname "$kernel" --set-version "$release" --show-depends --all \
        veth nft_reject_inet nft_numgen sch_netem | awk '{ print $2 }' | awk '!seen[$0]++' |
        while read -r module; do
            number=$(printf '%02d' "$(ls "$root/modules" | wc -l)")
            case $module in
            *.xz) xz --decompress --stdout "$module" ;;
            *) cat "$module" ;;
            esac >"$root/modules/$number.ko"
        done
}

# The first process: what differs from run to run, and init.sh.
write_init() {
    {
        echo '#!/bin/busybox sh'
        env | sed -n "s/^\(ZPA_[A-Z_]*\)=\(.*\)/export \1='\2'/p"
        echo "arguments='$arguments'"
        cat "$(dirname "$0")/init.sh"
    } >"$root/init"
    chmod +x "$root/init"
}

mkdir -p "$place"
kernel=$(unpack_kernel)
program_to_run=$(build)
[ -n "$program_to_run" ] || fail 'what is to run was not built'

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in ip tc nft ss; do
    copy_program "$name"
done
[ -z "$bench" ] || copy_other_proxies
# Where it is expected.
copy_files "$(dirname "$(dirname "$program_to_run")")/zpa"
cp "$program_to_run" "$root/program"
copy_modules
write_init
(cd "$root" && find . | cpio --quiet --create --format=newc --owner=0:0) >"$place/initramfs.part"
mv "$place/initramfs.part" "$place/initramfs"

log=$place/vm.log
qemu-system-x86_64 -nodefaults -no-reboot -display none -serial stdio \
    -machine q35 -cpu max -accel tcg,thread=multi -smp 2 -m "$memory" \
    -kernel "$(ls "$kernel"/boot/vmlinuz-*)" -initrd "$place/initramfs" \
    -append 'console=ttyS0 quiet panic=-1 mitigations=off' </dev/null | tee "$log"
# What the machine says last.
grep -q '^vm: passed' "$log" || fail "not passed, see $log"
