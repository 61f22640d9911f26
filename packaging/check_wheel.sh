#!/bin/bash
# check_wheel.sh WHEEL: installs WHEEL in an empty Debian (Python, no compiler, no FFmpeg), as a user without rights, and runs installed.py.
# Needs root, debootstrap and a Debian mirror. Exit status 3: there is no such machine to be had. TORCH (torch) is the torch that is installed
# with it, RELEASE (bookworm) the Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(realpath "$1")
release=${RELEASE:-bookworm}
mirror=${VIDLOAD_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -v security | head -n 1)} || true
root=$(mktemp -d)
chmod 755 "$root" # for the user without rights
trap 'rm -rf "$root" "$root.log"' EXIT
unavailable() { echo "check_wheel.sh: $*" >&2; exit 3; }
[ "$(id -u)" = 0 ] || unavailable "only root can make the empty Debian"
command -v debootstrap >/dev/null || unavailable "debootstrap is not installed"
timeout 900 debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$release" "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 3 "$root.log" >&2; unavailable "debootstrap of $release from '$mirror' failed"; }
for program in cc gcc g++ cmake ffmpeg; do ! chroot "$root" sh -c "command -v $program" || { echo "$program is there" >&2; exit 1; }; done
! chroot "$root" ldconfig -p | grep -E 'libav(codec|format|util)|libturbojpeg' || exit 1

version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "$root/wheels" "$root/check" "$root/dev/shm"
chmod 1777 "$root/dev/shm" # as where it is a mount
python3 -m pip download --quiet --disable-pip-version-check --dest "$root/wheels" --python-version "$version" --only-binary=:all: "$wheel" "${TORCH:-torch}" ||
  unavailable "what vidload depends on cannot be downloaded for Python $version"
cp README.md packaging/installed.py "$root/check/"
chown -R nobody "$root/check"
chroot --userspec=nobody:nogroup "$root" env -i PATH=/usr/bin:/bin HOME=/check PYTHONNOUSERSITE=1 sh -ec '
  python3 -m venv /check/venv
  /check/venv/bin/pip install --quiet --disable-pip-version-check --no-index --find-links /wheels vidload
  cd /check
  venv/bin/python installed.py README.md /check/work
'
echo "check_wheel.sh: $(basename "$wheel") works in an empty $release"
