#!/bin/sh
# Builds the static binary for a target, and prints where it is.
# Usage: build-static.sh x86_64-unknown-linux-musl|aarch64-unknown-linux-musl
set -eu

target=$1
arch=${target%%-*}

fail() {
    echo "make static: $1" >&2
    exit 1
}

case $target in
x86_64-unknown-linux-musl | aarch64-unknown-linux-musl) ;;
*) fail "TARGET=$target: not supported; use x86_64-unknown-linux-musl or aarch64-unknown-linux-musl" ;;
esac

# The C compiler is for the C and the assembly in ring, which use no C library:
# glibc's compiler does as well as musl's.
if [ "$arch" != "$(uname -m)" ]; then
    compiler=$arch-linux-gnu-gcc
    missing="install a cross compiler (Debian: gcc-$(echo "$arch" | tr _ -)-linux-gnu)"
    # The linker that comes with Rust knows every architecture.
    export "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=rust-lld"
elif command -v musl-gcc >/dev/null; then
    compiler=musl-gcc
else
    compiler=gcc
    missing="install a C compiler (Debian: gcc)"
fi
command -v "$compiler" >/dev/null || fail "$compiler is not there: $missing"
export "CC_$(echo "$target" | tr - _)=$compiler"

# Without rustup, the target has to come from where Rust came from.
if command -v rustup >/dev/null; then
    rustup target add "$target"
fi
cargo build --locked --release --bin zpa --target "$target"

binary=${CARGO_TARGET_DIR:-target}/$target/release/zpa
segments=$(readelf --program-headers --wide "$binary")
case $segments in
*INTERP*) fail "$binary is not static: it asks for a dynamic loader" ;;
esac
size=$(wc -c <"$binary")
echo "$binary: static, $((size / 1024)) KiB"
