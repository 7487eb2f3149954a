#!/bin/sh
# Measures in the emulated machine those rows of the bench that take netem, which Debian's
# kernel has.
#
#   WRITE    if not empty, the tables are put into NUMBERS.md
set -eu

log=target/vm/vm.log
numbers=tests/bench/NUMBERS.md
begin='<!-- Written by make bench-vm WRITE=1 -->'
end='<!-- /Written -->'

here=$(dirname "$0")
BENCH='far-1 far-16' sh "$here/run.sh"
[ -n "${WRITE:-}" ] || exit 0

# The first file is the log, from whose line ends the carriage return is removed; lines in
# brackets are the kernel's.
awk -v begin="$begin" -v end="$end" '
    NR == FNR {
        sub(/\r$/, "")
        if (/^vm: Linux/) { is_report = 1; next }
        if (/^The run took/) { is_report = 0 }
        if (is_report && !/^\[ *[0-9]/) { report = report $0 "\n" }
        next
    }
    $0 == begin { printf "%s\n\n%s", $0, report; is_old = 1; found = 1 }
    $0 == end { is_old = 0 }
    !is_old { print }
    END { exit !(found && report ~ /\n\| /) }
' "$log" "$numbers" >"$numbers.part" || {
    rm -f "$numbers.part"
    echo "make bench-vm: no tables in $log, or no place for them in $numbers" >&2
    exit 1
}
mv "$numbers.part" "$numbers"
