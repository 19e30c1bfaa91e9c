#!/bin/sh
# Makes a golden data folder: what this program writes from definitions.json, at a clean stop.
# usage: tests/golden/make.sh PROGRAM FOLDER, e.g. tests/golden/make.sh target/release/haremq tests/golden/format-1
# A folder is made once, by the last program before the format changes, and never again: the test that opens a copy of it
# shows that later programs still read it.
set -eu
program=$1
folder=$2
here=$(dirname "$0")
if [ -e "$folder" ]; then
    echo "$folder is there already; golden folders are not made anew" >&2
    exit 1
fi
"$program" definitions import "$here/definitions.json" --data-dir "$folder"
rm -f "$folder/haremq.lock"
