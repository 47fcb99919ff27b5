#!/usr/bin/env bash
# Installs the Debian/Ubuntu packages of the named groups (stream, sts, test), as root or by sudo.
# Does nothing when all are there. Says what it does.
set -eu

declare -A groups=(
    [python]="python3 python3-venv python3-dev"
    [stream]="ffmpeg gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 libgirepository1.0-dev libcairo2-dev pkg-config gcc fonts-dejavu-core"
    [bridge]="ffmpeg fonts-dejavu-core"
    [sts]="apertium apertium-eng-spa espeak-ng"
    [test]="gstreamer1.0-tools gstreamer1.0-plugins-ugly chromium"
)

wanted=()
for group in "$@"; do
    # shellcheck disable=SC2206 # the words are package names
    wanted+=(${groups[$group]})
done

if ! command -v dpkg-query >/dev/null; then
    echo "==> This is neither Debian nor Ubuntu. Install by hand what these packages hold: ${wanted[*]}" >&2
    exit 0
fi

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "==> Missing: ${missing[*]}. Neither root nor sudo here; ask an administrator to run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "==> Installing ${#missing[@]} system packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "==> apt-get failed; the lines above say why" >&2
    exit 1
fi
