#!/bin/bash
# A gateway in a box: boots Debian's kernels for ARM and MIPS with 64 MB and the static program, and relays through them.
#
#     src/dist/box.sh [<kernel> ...]      armmp, 4kc-malta; without an argument, both
#
# Needs root, qemu-system-arm and qemu-system-mips, busybox, iproute2, Python, apt, and what src/dist/small.sh needs. A box
# with a part missing is named and skipped. Each box takes five minutes at most, not counting downloads and compiling.
set -euo pipefail

cd "$(dirname "$0")/../.."
here=src/dist
build=${CARGO_TARGET_DIR:-target}/box
# The guest's link is a tap device in a network namespace that is made for the campaign.
link='ip tuntap add box mode tap; ip address add 10.0.2.2/24 dev box; ip link set box up; exec "$@"'
[ $# -gt 0 ] || set -- armmp 4kc-malta

describe() { # describe <kernel>: sets what differs between the boxes
    case $1 in
        armmp)
            architecture=armhf target=armv7-unknown-linux-musleabihf
            machine=(qemu-system-arm -M 'virt,highmem=off' -cpu cortex-a7 -append 'console=ttyAMA0 quiet panic=-1')
            ;;
        4kc-malta)
            architecture=mipsel target=mipsel-unknown-linux-musl
            machine=(qemu-system-mipsel -M malta -cpu 24Kf -append 'console=ttyS0 quiet panic=-1')
            ;;
        *) echo "no such box: $1" >&2; exit 2 ;;
    esac
}

# Packs busybox, the program and the driver of the network card. The other drivers are built into the kernel.
pack() { # pack <folder with the packages> <program>
    local root=$1/initramfs
    rm -rf "$root"
    install -D -t "$root/bin" "$1/bin/busybox" "$2"
    install "$here/box/init" "$root/"
    mkdir "$root"/{proc,dev,tmp}
    find "$1/lib/modules" -name e1000.ko -exec cp {} "$root/" \;
    (cd "$root" && find . | busybox cpio -o -H newc | gzip -1) > "$1/initramfs.gz"
}

try() { # try <kernel>
    local folder=$build/$1 program
    describe "$1"
    [ "$(id -u)" -eq 0 ] || { echo "box $1 skipped: root makes its network"; return 0; }
    for tool in "${machine[0]}" busybox ip python3 apt-get; do
        command -v "$tool" > /dev/null || { echo "box $1 skipped: no $tool"; return 0; }
    done
    program=$("$here/small.sh" "$target" | tail -n 1) || {
        # Status 3: a toolchain or musl is missing. Any other failure is a failure of the build.
        [ $? -eq 3 ] || return 1
        echo "box $1 skipped: no static program for $target"
        return 0
    }
    rm -rf "$folder"
    timeout 300 "$here/unpack.sh" "$architecture" "$folder" "linux-image-$1" busybox-static \
        || { echo "box $1 skipped: its packages cannot be had"; return 0; }
    pack "$folder" "$program"
    echo "box $1: $(stat -c %s "$program") bytes of program"
    timeout 300 unshare --net bash -euc "$link" link python3 "$here/box/load.py" "${machine[@]}" -m 64 -nodefaults -display none -no-reboot -serial stdio \
        -kernel "$folder"/boot/vmlinuz-* -initrd "$folder/initramfs.gz"
}

for kernel in "$@"; do
    try "$kernel"
done
