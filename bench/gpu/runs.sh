#!/usr/bin/env bash
# Whole runs on a GPU, in every precision and with every memory policy: the quickstart's first stage, short, by the command line. Each
# must learn (its loss begins at 6). Then both stages in bf16, with answers scored.
#
#   bash bench/gpu/runs.sh
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
patina=$PWD/bin/patina.js
cd "$(mktemp -d)"
failed=0
learns() { # name, settings...
  local name=$1 setting
  shift
  local arguments=(--set device=cuda --set schedule.updates=150 --set run.name="$name")
  for setting in "$@"; do arguments+=(--set "$setting"); done
  "$NODE" "$patina" train quickstart --json "${arguments[@]}" >"$name.jsonl" 2>"$name.err" || { failed=1; cat "$name.err"; }
  tail -n 1 "$name.jsonl" | NAME=$name "$NODE" -e '
    const end = JSON.parse(require("node:fs").readFileSync(0, "utf8") || "{}");
    const { reason, update, loss, skipped, seconds } = end;
    console.log(process.env.NAME.padEnd(24), reason, update, "updates, loss", loss?.toFixed(4), "skipped", skipped, seconds?.toFixed(1), "s");
    process.exitCode = reason === "finished" && loss < 0.6 ? 0 : 1;' || failed=1
}
learns fp32 precision.compute=fp32
learns bf16 precision.compute=bf16
learns bf16-master-bf16 precision.compute=bf16 precision.master=bf16
learns fp16 precision.compute=fp16
learns bf16-recompute precision.compute=bf16 memory.policy=recompute
learns bf16-offload precision.compute=bf16 memory.policy=offload
learns bf16-in-backward precision.compute=bf16 optimizer.updateInBackward=true optimizer.clipNorm=null
learns bf16-accumulated precision.compute=bf16 batchSize=4 accumulate=4
"$NODE" "$patina" train quickstart --set device=cuda --set precision.compute=fp16 --set schedule.updates=60 --set run.name=resumed \
  --max-updates 30 2>&1 | tail -n 1
"$NODE" "$patina" train --resume resumed 2>&1 | tail -n 1 || failed=1
"$NODE" "$patina" quickstart --set device=cuda --set precision.compute=bf16 2>&1 | grep -E 'finished|answers are right|took' || failed=1
exit $failed
