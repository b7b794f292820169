#!/bin/bash
# Runs each libFuzzer target for some seconds over its corpus. usage: scripts/fuzz.sh BUILD SECONDS
# New inputs stay in BUILD/corpus; a crashing one is kept there too, named in the output, and
# becomes a case in tests/fuzz/corpus once its bug is mended.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
seconds=$2
n_failed=0

while read -r _ program; do
    name=${program%_fuzz}
    found=$build/corpus/$name
    kept=tests/fuzz/corpus/$name
    mkdir -p "$found"
    log=$build/corpus/$name.log
    corpora=("$found")
    [ ! -d "$kept" ] || corpora+=("$kept")
    if "$build/tests/fuzz/$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$build/corpus/$name-" "${corpora[@]}" \
        >"$log" 2>&1 </dev/null; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        printf 'ok    %-24s %s runs in %s s\n' "$program" "$runs" "$seconds"
    else
        printf 'FAIL  %-24s see %s\n' "$program" "$log"
        tail -n 30 "$log"
        n_failed=$((n_failed + 1))
    fi
done < <(grep '^fuzz ' "$build/tests/programs.txt")
[ "$n_failed" = 0 ]
