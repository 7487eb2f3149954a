#!/bin/sh
# Runs tests (all of them: library, program, integration, documentation) for the
# make target that is named first, and sums up. Further arguments go to
# `cargo test`. A test that says `skipped: ` is not counted as passed.
set -eu

target=$1
shift
# More than there are processors: most tests wait for something most of the time.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-4}"
mkdir -p target
log=target/$target.log
status=target/$target.status
# A pipe has the exit status of its last command, tee.
{
    code=0
    cargo test --locked --workspace --no-fail-fast "$@" || code=$?
    echo "$code" >"$status"
} 2>&1 | tee "$log"

code=$(cat "$status")
# In CI, which installs them, every tool is there, or less is tested than it looks.
if [ -n "${ZPA_ALL_TOOLS:-}" ] && grep '^skipped: .* is not installed$' "$log"; then
    code=1
fi
[ "$code" -eq 0 ] && verdict=passed || verdict=FAILED

echo
grep -E '^(skipped|restricted): ' "$log" | sort || true
awk -v target="$target" -v verdict="$verdict" '
    /^skipped: / { skipped += 1 }
    /^test result: / { passed += $4; failed += $6; ignored += $8 }
    END {
        printf "make %s: %s (%d passed, %d failed, %d skipped, %d ignored)\n",
            target, verdict, passed - skipped, failed, skipped, ignored
    }
' "$log"
exit "$code"
