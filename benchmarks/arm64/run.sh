#!/bin/bash
# Runs exported .tflite files on emulated ARM64 processors and compares their predictions with x86's.
#
#     bash benchmarks/arm64/run.sh [--networks KEY...] [--cpu cortex-a53 cortex-a76] [--kernels xnnpack|builtin|reference]
#
# Needs an x86-64 Debian or Ubuntu and the network: it fetches Debian's arm64 Python, qemu and the aarch64 wheel of
# LiteRT into build/arm64, all as an ordinary user. apt is given folders of its own, so that nothing on the system changes.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
BUILD=build/arm64

# unpack ARCHITECTURE FOLDER PACKAGE...: the packages and all that they depend on, as apt finds them for a bare system.
unpack() {
    local architecture=$1 root=$BUILD/$2 apt=$PWD/$BUILD/apt-$1 package
    shift 2
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$root"
    : >"$apt/status"
    local options=(
        --quiet=2 -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o Acquire::Languages=none
        -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" -o APT::Sandbox::User=
    )
    apt-get "${options[@]}" update
    apt-get "${options[@]}" install --yes --download-only --no-install-recommends "$@"
    for package in "$apt"/archives/*.deb; do
        dpkg-deb --extract "$package" "$root"
    done
    rm -r "$apt"
}

if [ ! -e $BUILD/ready ]; then
    echo "Setting up $BUILD"
    rm -rf $BUILD
    unpack arm64 arm64 python3 libstdc++6
    unpack amd64 qemu qemu-user-static
    # Its name depends on the release of the system.
    mv $BUILD/qemu/usr/bin/qemu-aarch64-static $BUILD/qemu-aarch64 2>/dev/null ||
        mv $BUILD/qemu/usr/bin/qemu-aarch64 $BUILD/qemu-aarch64
    rm -r $BUILD/qemu
    version=$(basename $BUILD/arm64/usr/bin/python3.[0-9]*[0-9])
    platforms=()
    for glibc in 2_17 2_27 2_28; do
        platforms+=(--platform "manylinux_${glibc}_aarch64")
    done
    # The same release as here, or else two releases would be compared.
    litert=$($PYTHON -c 'from importlib.metadata import version; print(version("ai-edge-litert"))')
    $PYTHON -m pip install --quiet --disable-pip-version-check --target $BUILD/site --only-binary=:all: \
        --python-version "${version#python}" "${platforms[@]}" "ai-edge-litert==$litert"
    touch $BUILD/ready
fi
exec $PYTHON benchmarks/arm64/compare.py $BUILD "$@"
