#!/usr/bin/env bash
# Sourced by the scripts beside it, in the repository's root: builds, and goes to an empty folder with room for runs. Leaves $NODE, $patina, $benches,
# $DEVICE (cuda; DEVICE=cpu without a GPU), ${shape[@]} of models (SHAPE=small tries scripts themselves), and `watched`.
DEVICE=${DEVICE:-cuda}
if [ "$DEVICE" = cuda ]; then
  . "$(dirname "$0")/build.sh"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
else
  set -euo pipefail
  NODE=node
fi
patina=$PWD/bin/patina.js
benches=$PWD/dist/bench
shape=()
if [ "${SHAPE:-}" = small ]; then shape=(--layers 1 --hidden 512); fi
cd "$(mktemp -d)"
# Room for checkpoints is asked for before the first update; none is written here, so a sparse disk will do.
if [ "$DEVICE" = cuda ] && [ "$(df --output=avail -BG . | tail -1 | tr -dc 0-9)" -lt 450 ]; then
  mkdir -p runs
  truncate -s 600G disk && mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 disk && mount -o loop disk runs
fi

# Trains with `patina train`'s arguments and ends it after so many updates, whose checkpoint may be of 112 GB; prints what it said and its figures.
watched() { # updates, arguments...
  local updates=$1 pid code=0
  shift
  "$NODE" "$patina" train "$@" --json >watched.jsonl 2>watched.err &
  pid=$!
  for ((i = 0; i < 2 * ${SECONDS_EACH:-200}; i++)); do
    if ! kill -0 $pid 2>/dev/null || [ "$(grep -c '"type":"update"' watched.jsonl)" -ge "$updates" ]; then break; fi
    sleep 0.5
  done
  # Ended by this, it ends with 137.
  kill -KILL $pid 2>/dev/null || true
  wait $pid 2>/dev/null || code=$?
  echo "  exit code $code"
  tail -4 watched.err
  "$NODE" -e '
    const events = require("node:fs").readFileSync("watched.jsonl", "utf8").split("\n").filter(Boolean).flatMap((line) => { try { return [JSON.parse(line)]; } catch { return []; } });
    for (const { statements } of events.filter(({ type }) => type === "start")) for (const each of statements) console.log("  " + each);
    for (const e of events.filter(({ type }) => type === "update")) {
      const memory = (e.ranks ?? [e.memory]).map(({ peakBytes }) => (peakBytes / 2 ** 30).toFixed(2)).join(" ");
      console.log("  update", e.update, "loss", e.loss?.toFixed(4), "tokens", e.counts.tokens, "s", e.seconds.toFixed(2), "GiB a card", memory);
    }'
  rm -rf runs/*-*
  sleep 3
}
