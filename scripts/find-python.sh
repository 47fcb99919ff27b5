#!/usr/bin/env bash
# Prints the newest Python from 3.11 on that can make a virtual environment; fails with what to do otherwise.
set -u
for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    path=$(command -v "$name") || continue
    "$path" -c 'import sys, venv, ensurepip; raise SystemExit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || continue
    echo "$path"
    exit 0
done
echo "babelcast needs Python 3.11 or later with venv, and found none." >&2
echo "On Debian 12, Debian 13 or Ubuntu 24.04: apt-get install python3 python3-venv. Or set PYTHON=/path/to/python3." >&2
exit 1
