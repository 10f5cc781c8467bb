#!/bin/bash
# Makes a tarball for each target, with the static program and the files that go with it, and SHA256SUMS.
#
#     src/dist/release.sh <folder> [<target> ...]
#
# The same source and toolchain give the same bytes, in any folder. Needs rustup, GNU tar and
# cargo-auditable, which lists the crates inside the program. Where rustup has no standard library for a
# target, src/dist/small.sh builds one. A target that it cannot build for is named and left out, and the exit
# status is then 3.
set -euo pipefail

out=$(realpath -m "${1:?folder for the tarballs}")
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=({x86_64,aarch64,i686,mipsel,riscv64gc}-unknown-linux-musl armv7-unknown-linux-musleabihf)
fi
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
build=${CARGO_TARGET_DIR:-target}/release-tarballs
SOURCE_DATE_EPOCH=$(date -d "$(sed -n '/^ -- /{s/.*>  //p;q}' src/dist/changelog)" +%s)
export SOURCE_DATE_EPOCH

# Keeps the build machine's paths out of the program's messages.
toolchain=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
flags="--remap-path-prefix=$PWD=tcprelay --remap-path-prefix=$toolchain/lib/rustlib/src/rust=/rustc/$commit"
cargo fetch --locked --quiet
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags+=" --remap-path-prefix=$registry=crates"
done

compile() { # compile <target>: sets program
    local linker
    if ! rustup target add "$1" > /dev/null 2>&1; then
        program=$(RUSTFLAGS=$flags AUDITABLE=yes CARGO_TARGET_DIR=$build src/dist/small.sh "$1" | tail -n 1)
        return
    fi
    program=$build/$1/release/tcprelay
    linker=CARGO_TARGET_$(tr a-z- A-Z_ <<< "$1")_LINKER
    # The toolchain's own linker serves every target, so no cross linker is needed.
    env "$linker=rust-lld" "RUSTFLAGS=$flags" \
        cargo auditable build --quiet --locked --release --target "$1" --target-dir "$build" --bin tcprelay
}

pack() { # pack <target>
    local name=tcprelay-$version-$1 folder
    folder=$build/$name
    rm -rf "$folder"
    install -d "$folder"/{completions,systemd,openrc,grafana}
    install -m755 "$program" "$folder/"
    install -m644 README.md LICENSE-MIT LICENSE-APACHE src/dist/changelog "$build/beside/tcprelay.1" "$folder/"
    install -m644 "$build"/beside/{tcprelay.bash,_tcprelay,tcprelay.fish} "$folder/completions/"
    install -m644 src/dist/tcprelay@.{service,socket} "$folder/systemd/"
    install -m644 src/dist/grafana/tcprelay.json "$folder/grafana/"
    install -m644 src/dist/openrc/tcprelay.confd "$folder/openrc/"
    install -m755 src/dist/openrc/tcprelay.initd "$folder/openrc/"
    tar --create --directory "$build" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX "$name" | gzip -9 -n > "$out/$name.tar.gz"
}

mkdir -p "$out"
cargo run --quiet --locked --release --target-dir "$build" --example dist -- "$build/beside"
missing=()
made=()
for target in "${targets[@]}"; do
    status=0
    compile "$target" || status=$?
    case $status in
        0) pack "$target" && made+=("tcprelay-$version-$target.tar.gz") ;;
        3) missing+=("$target") ;;
        *) exit "$status" ;;
    esac
done
(cd "$out" && sha256sum "${made[@]}" | tee SHA256SUMS)
if [ ${#missing[@]} -gt 0 ]; then
    echo "not made, as no standard library is to be had for them: ${missing[*]}" >&2
    exit 3
fi
