#!/bin/bash
# Builds the smallest static program for a musl target. A nightly compiler builds the standard library with it, and a
# panic ends the process at once, without a message. Prints the program's size, its memory when idle if it runs on
# this machine, and its path on the last line.
#
#     src/dist/small.sh [<target>]        x86_64-unknown-linux-musl
#
# Needs a nightly toolchain with rust-src, and apt, which provides musl for the target's architecture. It also serves
# targets without a standard library in rustup. AUDITABLE=yes adds the list of crates. Debian builds musl for MIPS
# with hardware floating point, so the program for mipsel needs a processor with an FPU, or a kernel that emulates one.
set -euo pipefail

target=${1:-x86_64-unknown-linux-musl}
cd "$(dirname "$0")/../.."
build=$(realpath -m "${CARGO_TARGET_DIR:-target}/small")
features=+crt-static
case $target in
    x86_64-unknown-linux-musl) architecture=amd64 ;;
    aarch64-unknown-linux-musl) architecture=arm64 ;;
    i686-unknown-linux-musl) architecture=i386 ;;
    armv7-unknown-linux-musleabihf) architecture=armhf ;;
    mipsel-unknown-linux-musl) architecture=mipsel features+=,-soft-float ;;
    *) echo "no musl for $target" >&2; exit 3 ;;
esac
sources=$(rustc +nightly --print sysroot 2> /dev/null || true)/lib/rustlib/src/rust
if [ ! -d "$sources" ]; then
    echo 'no nightly toolchain with rust-src' >&2
    exit 3
fi

musl=$build/musl-$architecture
[ -d "$musl/usr" ] || timeout 300 src/dist/unpack.sh "$architecture" "$musl" musl-dev \
    || { rm -rf "$musl"; echo "no musl for $architecture" >&2; exit 3; }
library=$(dirname "$musl"/usr/lib/*/libc.a)
# The standard library links libunwind. A program that never unwinds uses none of it, so an empty archive will do.
ar crs "$library/libunwind.a"

flags="--remap-path-prefix=$sources=/rust -Ctarget-feature=$features -Cforce-unwind-tables=no -Crelocation-model=static"
flags+=" -Clinker-flavor=ld.lld -Clink-self-contained=no -Lnative=$library"
for object in crt1.o crti.o crtn.o; do
    flags+=" -Clink-arg=$library/$object"
done
linker=CARGO_TARGET_$(tr a-z- A-Z_ <<< "$target")_LINKER
env "$linker=rust-lld" "RUSTFLAGS=${RUSTFLAGS:-} $flags -Clink-arg=-lc" CARGO_PROFILE_RELEASE_PANIC=immediate-abort \
    cargo +nightly ${AUDITABLE:+auditable} build --quiet --locked --release --target "$target" --target-dir "$build" \
    --bin tcprelay -Zpanic-immediate-abort -Zbuild-std=std,panic_abort -Zbuild-std-features=

program=$build/$target/release/tcprelay
echo "$(stat -c %s "$program") bytes"
if "$program" --version > /dev/null 2>&1; then
    "$program" 18080 127.0.0.1 9 ANY 1 30 5 4000 > /dev/null & relay=$!
    sleep 1
    awk '/^Pss:/ {print $2 " KiB idle (PSS)"}' "/proc/$relay/smaps_rollup"
    kill "$relay"
    wait "$relay"
fi
echo "$program"
