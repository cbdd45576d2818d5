#!/usr/bin/env bash
# Compares two builds on one card: training steps on the LLaVA-Llama-3-8B shape, this build and the other in turn, then in the other
# order, each run in a process of its own. Before that, the tests of tensors, layers, optimizer and step of this build. Prints one table;
# no run begins after $UNTIL seconds.
#
#   bash bench/gpu/compare.sh FOLDER [arguments of dist/bench/train.js, such as --layers 4]
#
# FOLDER lies within the checkout, whose node_modules it uses, and holds dist/, native/ and package.json of another commit.
SECONDS=0
OTHER=$1
shift
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
"$NODE" --version
python3 -c 'import torch; print("torch", torch.__version__)'

{
  cmake -G Ninja -S "$OTHER/native" -B /tmp/patina/addon-other -DCMAKE_BUILD_TYPE=Release -DPATINA_LIBTORCH="$TORCH" \
    -DNODE_API_HEADERS="$PWD/node_modules/node-api-headers/include"
  ninja -C /tmp/patina/addon-other
} >/tmp/patina/other.log 2>&1 &
building=$!
# A process for each file: one that has taken a gradient on the CPU before it first asked for the GPU does not see it.
timeout -k 5 150 "$NODE" node_modules/vitest/vitest.mjs run --isolate --no-color src/torch src/nn src/optim src/train/step 2>&1 \
  | tail -100 || true
wait $building || { tail -30 /tmp/patina/other.log; exit 1; }
echo "built and tested after $SECONDS s"

# The row of the run in $1/run.out, and what its steps told in $1/run.err: medians over the steps, as train.js takes them.
summary='const { readFileSync } = require("node:fs");
  const [folder, build, ...setting] = process.argv.slice(1);
  const [out, err] = ["out", "err"].map((end) => readFileSync(`${folder}/run.${end}`, "utf8"));
  const median = (pattern) => {
    const values = [...err.matchAll(pattern)].map(([, value]) => Number(value)).sort((a, b) => a - b);
    return values[values.length >> 1];
  };
  const cells = (row) => row.map((cell, i) => String(cell)[i < 3 ? "padEnd" : "padStart"](10)).join("");
  if (build === undefined) console.log(cells(["build", "mode", "policy", "tokens/s", "peak GiB", "loss", "step ms", "queued ms"]));
  else if (!out.startsWith("{") || out.includes("failed")) console.log(cells([build, ...setting, "no result"]));
  else {
    const { mode, policy, tokensPerSecond, peakGiB, loss } = JSON.parse(out);
    const ms = (median(/ s ([\d.]+)/g) * 1000).toFixed(0);
    console.log(cells([build, mode, policy, tokensPerSecond, peakGiB, loss.toFixed(4), ms, median(/queued (\d+)/g)]));
  }'
table=$(mktemp)
run() { # build mode policy [arguments]
  local build=$1 mode=$2 policy=$3 folder=. addon=$PATINA_ADDON
  shift 3
  [ "$SECONDS" -lt "${UNTIL:-480}" ] || return 0
  [ "$build" = this ] || { folder=$OTHER addon=/tmp/patina/addon-other; }
  echo "--- $build $mode $policy, $SECONDS s"
  PATINA_ADDON=$addon timeout -k 5 90 "$NODE" "$folder/dist/bench/train.js" --json --steps 6 --modes "$mode" --policies "$policy" "$@" \
    >/tmp/patina/run.out 2>/tmp/patina/run.err || echo "exit $?"
  cat /tmp/patina/run.err /tmp/patina/run.out
  "$NODE" -e "$summary" /tmp/patina "$build" "$mode" "$policy" >>"$table"
}
for setting in 'lora recompute' 'lora keep' 'lora offload' 'full recompute'; do
  # shellcheck disable=SC2086 # two words
  for build in this other; do run $build $setting "$@"; done
done
for setting in 'lora keep' 'lora offload' 'lora recompute' 'full recompute'; do
  # shellcheck disable=SC2086
  for build in other this; do run $build $setting "$@"; done
done
echo "finished after $SECONDS s"
"$NODE" -e "$summary" /tmp/patina
cat "$table"
