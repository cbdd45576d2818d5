#!/usr/bin/env bash
# Full fine-tuning of a model of LLaVA-Llama-3-8B's shape, tower by LoRA, on cards of 40 GB, batch 1, by the command line: in one process
# it must end with exit code 5 and say what would fit; shared out over all cards, optimizer in host memory, it trains. Weights are
# random, the data are the quickstart's with records without pictures among them. Prints what each run says and its figures.
#
#   bash bench/gpu/forty.sh [GiB of a card (40)] [updates (8)]
#
# SHAPE=small (exported) tries the script itself; DEVICE=cpu without a GPU.
LIMIT=${1:-40}
UPDATES=${2:-8}
. "$(dirname "$0")/watched.sh"
NPROC=2
if [ "$DEVICE" = cuda ]; then
  export NCCL_NVLS_ENABLE=0 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
  NPROC=gpus
fi
"$NODE" "$benches/random-recipe.js" . llava-llama-3-8b-finetune "${shape[@]}" --device "$DEVICE"
limit=()
if [ "$LIMIT" -gt 0 ]; then limit=(--set "memory.limit=$LIMIT"); fi
alone=0
timeout -s KILL "${SECONDS_EACH:-200}" "$NODE" "$patina" train llava-llama-3-8b-finetune.json --json "${limit[@]}" --max-updates 1 >alone.jsonl 2>alone.err || alone=$?
echo "one process: exit code $alone"
tail -4 alone.err
for arguments in "parallel.zero=3 parallel.offload=optimizer" "parallel.zero=3 parallel.offload=optimizer optimizer.clipNorm=null"; do
  sets=()
  for each in $arguments; do sets+=(--set "$each"); done
  echo "$arguments, on all cards:"
  watched "$UPDATES" llava-llama-3-8b-finetune.json --nproc "$NPROC" "${limit[@]}" "${sets[@]}"
done
[ $alone -eq 5 ]
