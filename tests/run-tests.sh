#!/bin/sh
# Runs every test (library, program, integration, documentation) and sums up.
# Arguments go to `cargo test`.
set -eu

mkdir -p target
log=target/test.log
status=target/test.status
# A pipe has the exit status of its last command, tee.
{
    code=0
    cargo test --locked --no-fail-fast "$@" || code=$?
    echo "$code" >"$status"
} 2>&1 | tee "$log"

code=$(cat "$status")
[ "$code" -eq 0 ] && verdict=passed || verdict=FAILED

echo
sort -u "$log" | grep '^skipped: ' || true
awk -v verdict="$verdict" '
    /^test result: / { passed += $4; failed += $6; ignored += $8 }
    END { printf "make test: %s (%d passed, %d failed, %d ignored)\n", verdict, passed, failed, ignored }
' "$log"
exit "$code"
