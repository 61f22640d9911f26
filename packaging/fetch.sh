#!/bin/sh
# fetch.sh NAME FOLDER: leaves the source archive that sources.txt names in FOLDER and prints its path. It comes from the folder
# VIDLOAD_SOURCES, if that is set, else from the URL in sources.txt, or from the Debian mirror that VIDLOAD_MIRROR or apt's configuration
# names. Only the archive with the pinned sha256 is taken. Exit status 3: it cannot be had.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=$1
folder=$2
# shellcheck disable=SC2046
set -- $(grep "^$name " "$here/sources.txt")
sum=$3
path=$4
archive=$folder/${path##*/}
mkdir -p "$folder"
is_good() { [ -f "$archive" ] && echo "$sum  $archive" | sha256sum --check --status; }
if ! is_good; then
  if [ -n "${VIDLOAD_SOURCES:-}" ]; then
    cp "$VIDLOAD_SOURCES/${path##*/}" "$archive" || exit 3
  else
    case $path in
      *://*) url=$path ;;
      *)
        mirror=${VIDLOAD_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | head -n 1)}
        url=${mirror%/}/$path
        ;;
    esac
    python3 - "$url" "$archive" <<'PYTHON' || { echo "$name: cannot fetch '$url'" >&2; exit 3; }
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target)
PYTHON
  fi
  is_good || { echo "$name: $archive is not the archive with the sha256 $sum" >&2; rm -f "$archive"; exit 3; }
fi
echo "$archive"
