#!/usr/bin/env bash
# `patina train --fit` on one card of so much memory: the recipes for fine-tuning over random weights of their shape. Each either trains, with what was
# changed for it said first, or ends with exit code 5 and says that only another method fits; then that one is asked for. Then memory that falls while a
# run goes: bench/shortage.ts.
#
#   bash bench/gpu/fit.sh [GiB of the card (24)] [updates (4)]
#
# SHAPE=small (exported) tries the script itself; DEVICE=cpu without a GPU.
LIMIT=${1:-24}
UPDATES=${2:-4}
. "$(dirname "$0")/watched.sh"
for run in "llava-llama-3-8b-lora --fit" "llava-llama-3-8b-finetune --fit" "llava-llama-3-8b-finetune --fit any"; do
  read -r name fit <<<"$run"
  "$NODE" "$benches/random-recipe.js" . "$name" "${shape[@]}" --device "$DEVICE"
  echo "$run, $LIMIT GiB:"
  # shellcheck disable=SC2086 # words of their own
  watched "$UPDATES" "$name.json" --set "memory.limit=$LIMIT" $fit
done
"$NODE" "$benches/shortage.js" --device "${DEVICE/%cuda/cuda:0}" "${shape[@]}"
