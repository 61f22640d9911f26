#!/bin/bash
# libraries.sh PREFIX: builds zlib, dav1d, libjpeg-turbo and FFmpeg from the archives of sources.txt as static libraries under PREFIX, for a
# module that holds all of them (CMake's VIDLOAD_BUNDLED) and shows none of their symbols. CC, CXX, AR, RANLIB, NM choose the tools, TARGET
# (x86_64 or aarch64) the processor, JOBS the processes, FFMPEG another name of sources.txt. Nothing is built where PREFIX is up to date.
#
# What is left out cannot be attacked, and what can read nothing but its own bytes needs no watching:
# - decoders and demuxers of recordings and of what people convert them to: cameras, phones, the web, broadcast, screen capture, editing,
#   lossless archives. None of games, animation programs, forensic and satellite formats, nor of sound: vidload never decodes it.
# - no protocol, no network, no format that points to other files, no encoder, no muxer, no filter, no program.
# - LGPL: nothing under the GPL, nothing non-free.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(mkdir -p "$1" && cd "$1" && pwd)
target=${TARGET:-x86_64}
ffmpeg=${FFMPEG:-ffmpeg}
jobs=${JOBS:-$(nproc)}
CC=${CC:-cc} CXX=${CXX:-c++} AR=${AR:-ar} RANLIB=${RANLIB:-ranlib} NM=${NM:-nm}
export CC CXX AR RANLIB NM
optimize="-O3 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections ${LIBRARY_CFLAGS:-}"

decoders=(
  # the web, phones, cameras, broadcast
  h264 hevc vvc vp8 vp9 libdav1d av1 mpeg1video mpeg2video mpegvideo mpeg4 h261 h263 h263i h263p mjpeg mjpegb sp5x amv mxpeg theora cavs dirac apv
  # Flash, Windows Media, RealVideo, QuickTime, DivX and others that older data sets are made of
  flv vp3 vp4 vp5 vp6 vp6a vp6f vp7 msmpeg4v1 msmpeg4v2 msmpeg4v3 wmv1 wmv2 wmv3 wmv3image vc1 vc1image rv10 rv20 rv30 rv40 rv60 svq1 svq3
  cinepak indeo2 indeo3 indeo4 indeo5 msvideo1 msrle qtrle rpza smc eightbps truemotion1 truemotion2 truemotion2rt snow mimic
  # editing and tape
  prores prores_raw dnxhd cfhd dvvideo hqx hq_hqa aic cllc pixlet notchlc hap dxv media100 avui simbiosis_imx
  # lossless and uncompressed
  ffv1 huffyuv ffvhuff hymt utvideo magicyuv lagarith fraps loco sheervideo ylc vble mszh zlib asv1 asv2 cljr
  rawvideo v210 v210x r210 r10k avrp avrn y41p yuv4 bitpacked
  # screens
  flashsv flashsv2 cscd zmbv tscc tscc2 g2m mss1 mss2 msa1 mts2 fic scpr screenpresso rscc wcmv mwsc rasc tdsc
  # pictures, alone and as streams
  png apng gif bmp tiff webp jpeg2000 jpegls
)
demuxers=(
  mov matroska avi mpegts mpegps flv live_flv kux asf ogg nut mxf gxf rm ivf obu av1 apv wtv nsv dv yuv4mpegpipe pva nuv
  h264 hevc vvc evc h261 h263 m4v mpegvideo mjpeg mpjpeg smjpeg mjpeg_2000 vc1 vc1t cavsvideo dirac dnxhd ipu ingenient
  gif apng image_jpeg_pipe image_png_pipe image_bmp_pipe image_tiff_pipe image_webp_pipe
)
hwaccels=(h264_nvdec hevc_nvdec av1_nvdec vp8_nvdec vp9_nvdec mpeg1_nvdec mpeg2_nvdec mpeg4_nvdec mjpeg_nvdec vc1_nvdec wmv3_nvdec)

sources=$(grep -E "^(zlib|dav1d|libjpeg-turbo|nv-codec-headers|$ffmpeg) " "$here/sources.txt")
inputs=$(echo "$sources" | cat - "$here/libraries.sh" | sha256sum)-$CC-$target-$ffmpeg-$optimize-${FFMPEG_FLAGS:-}
[ -f "$prefix/built" ] && [ "$(cat "$prefix/built")" = "$inputs" ] && exit 0
rm -rf "${prefix:?}"/*
build=$prefix/build
licenses=$prefix/licenses
mkdir -p "$build" "$licenses"

unpack() {  # NAME: its sources in $build/NAME
  local archive
  archive=$("$here/fetch.sh" "$1" "${VIDLOAD_DOWNLOADS:-$prefix/../downloads}") || exit 3
  mkdir "$build/$1"
  tar xf "$archive" -C "$build/$1" --strip-components=1
}
log() { echo "$(date +%T) $*"; }

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig PKG_CONFIG_LIBDIR=$prefix/lib/pkgconfig
for name in zlib dav1d libjpeg-turbo nv-codec-headers "$ffmpeg"; do unpack "$name"; done

log zlib
(cd "$build/zlib" && CFLAGS="$optimize" ./configure --static --prefix="$prefix" && make -j"$jobs" libz.a && make install) >"$build/zlib.log"
cp "$build/zlib/LICENSE" "$licenses/zlib.txt"

log nv-codec-headers
make -C "$build/nv-codec-headers" install PREFIX="$prefix" >/dev/null
sed -n '1,/\*\//p' "$build/nv-codec-headers/include/ffnvcodec/dynlink_cuda.h" >"$licenses/nv-codec-headers.txt"

log dav1d
cat >"$build/meson.txt" <<MESON
[binaries]
c = '$CC'
ar = '$AR'
pkg-config = 'pkg-config'
[host_machine]
system = 'linux'
cpu_family = '$target'
cpu = '$target'
endian = 'little'
MESON
meson setup "$build/dav1d/out" "$build/dav1d" --cross-file "$build/meson.txt" --prefix "$prefix" --libdir lib --buildtype release \
  --default-library static -Db_staticpic=true -Db_ndebug=true -Dc_args="$optimize" -Denable_tools=false -Denable_tests=false >"$build/dav1d.log"
ninja -C "$build/dav1d/out" -j "$jobs" install >>"$build/dav1d.log"
cp "$build/dav1d/COPYING" "$licenses/dav1d.txt"

log libjpeg-turbo
cmake -S "$build/libjpeg-turbo" -B "$build/libjpeg-turbo/out" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
  -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$target" -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=ON \
  -DWITH_TOOLS=OFF -DWITH_TESTS=OFF -DREQUIRE_SIMD=ON -DCMAKE_C_FLAGS="$optimize" -DCMAKE_AR="$(command -v "$AR")" \
  -DCMAKE_RANLIB="$(command -v "$RANLIB")" >"$build/libjpeg-turbo.log"
cmake --build "$build/libjpeg-turbo/out" --parallel "$jobs" --target install >>"$build/libjpeg-turbo.log"
cp "$build/libjpeg-turbo/LICENSE.md" "$licenses/libjpeg-turbo.md"
cp "$build/libjpeg-turbo/README.ijg" "$licenses/libjpeg-turbo-ijg.txt"

log ffmpeg
cd "$build/$ffmpeg"
enable() { local kind=$1 && shift && printf -- "--enable-$kind=%s " "$@"; }
cross=()
[ "$target" = "$(uname -m)" ] || cross=(--enable-cross-compile --target-os=linux)
# shellcheck disable=SC2046,SC2086
./configure --prefix="$prefix" --arch="$target" "${cross[@]}" --cc="$CC" --cxx="$CXX" --ar="$AR" --ranlib="$RANLIB" --nm="$NM" --pkg-config=pkg-config \
  --pkg-config-flags=--static --enable-static --disable-shared --enable-pic --disable-debug --disable-doc --disable-programs \
  --disable-autodetect --disable-network --disable-everything --disable-avdevice --disable-avfilter --disable-swresample \
  --enable-zlib --enable-libdav1d --enable-ffnvcodec --enable-nvdec --extra-cflags="-fvisibility=hidden ${LIBRARY_CFLAGS:-}" --optflags="-O3" \
  --extra-ldflags="${LIBRARY_LDFLAGS:-}" \
  --enable-parsers $(enable decoder "${decoders[@]}") $(enable demuxer "${demuxers[@]}") $(enable hwaccel "${hwaccels[@]}") \
  ${FFMPEG_FLAGS:-} >"$build/ffmpeg.log" || { tail -n 20 ffbuild/config.log >&2; exit 1; }
# glibc 2.28 has the function, ziglang's headers, which are newer, no longer declare it; the processors are counted without it.
sed -i 's/^#define HAVE_SYSCTL 1/#define HAVE_SYSCTL 0/' config.h
make -j"$jobs" >>"$build/ffmpeg.log" 2>"$build/ffmpeg.warnings"
make install >>"$build/ffmpeg.log"
cp COPYING.LGPLv2.1 "$licenses/ffmpeg-LGPL-2.1.txt"
cp LICENSE.md "$licenses/ffmpeg.md"
# A name that configure does not know is dropped with a warning only. Earlier versions know fewer.
check() { grep -q "^#define CONFIG_${2^^}_${1^^} 1" config_components.h || { echo "FFmpeg has no $1 $2" >&2; exit 1; }; }
if [ "$ffmpeg" = ffmpeg ]; then
  for name in "${decoders[@]}"; do check decoder "$name"; done
  for name in "${demuxers[@]}"; do check demuxer "$name"; done
  for name in "${hwaccels[@]}"; do check hwaccel "$name"; done
fi
if [ "$target" = x86_64 ]; then grep -q '^#define HAVE_X86ASM 1' config.h; else grep -q '^#define HAVE_NEON 1' config.h; fi || { echo "FFmpeg was built without assembly" >&2; exit 1; }
grep -q 'LGPL version 2.1 or later' config.h || { echo "FFmpeg's license is not the LGPL 2.1" >&2; exit 1; }

{
  echo "vidload's module has these libraries linked into it. FFmpeg is used under the LGPL 2.1: the archive below and packaging/ of vidload's"
  echo "sources make the module again, with any other FFmpeg in its place."
  echo "$sources"
} >"$licenses/SOURCES.txt"

rm -rf "$build"
echo "$inputs" >"$prefix/built"
log "built $prefix"
