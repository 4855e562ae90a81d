#!/usr/bin/env bash
# Counts what a test run left behind: processes, containers and directories that carry its
# MESITA_RUN_ID. Fails when there is any.
set -euo pipefail
run_id=${1:?usage: scripts/leftovers.sh RUN_ID}
left=0

for environ in /proc/[0-9]*/environ; do
    pid=${environ#/proc/}; pid=${pid%/environ}
    # This script and its parents carry the id, too: only look at mesita and its children's payloads.
    [ "$pid" = "$$" ] && continue
    # Processes come and go while we look, and some are not ours to read.
    if { tr '\0' '\n' <"$environ"; } 2>/dev/null | grep -qx "MESITA_RUN_ID=$run_id"; then
        case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
            *leftovers.sh*|*.ci/run*|tr*|grep*|"") ;;
            *) echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline")"; left=$((left + 1)) ;;
        esac
    fi
done

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    while read -r container; do
        [ -n "$container" ] && { echo "container $container"; left=$((left + 1)); }
    done < <(docker ps -aq --filter "label=MESITA_RUN_ID=$run_id")
    while read -r network; do
        [ -n "$network" ] && { echo "network $network"; left=$((left + 1)); }
    done < <(docker network ls -q --filter "label=MESITA_RUN_ID=$run_id")
fi

while read -r directory; do
    echo "directory $directory"; left=$((left + 1))
done < <(find "${TMPDIR:-/tmp}" -maxdepth 1 -name "mesita-$run_id-*" 2>/dev/null)

echo "$left left behind by run $run_id"
[ "$left" -eq 0 ]
