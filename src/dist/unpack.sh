#!/bin/bash
# Downloads Debian packages of any architecture and unpacks them into a folder. Installs nothing.
#
#     src/dist/unpack.sh <architecture> <folder> <package> ...
#
# apt keeps its lists for that architecture in the folder too, and does not touch the machine's own.
# For a kernel's metapackage, the script takes the kernel that it depends on.
set -euo pipefail

architecture=$1
folder=$(realpath -m "$2")
shift 2
apt=$folder/.apt
mkdir -p "$apt"/{lists,cache/archives}/partial
: > "$apt/status"
options=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
    -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o Acquire::Languages=none -o APT::Sandbox::User=root)

# A list that fails to download does not matter if another one has the package.
apt-get "${options[@]}" update 2> /dev/null || true
cd "$apt/cache"
for package in "$@"; do
    kernel=$(apt-cache "${options[@]}" show --no-all-versions "$package" | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
    rm -f -- *.deb
    apt-get "${options[@]}" download "${kernel:-$package}"
    dpkg-deb --extract ./*.deb "$folder"
done
