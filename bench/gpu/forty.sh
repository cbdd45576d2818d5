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
DEVICE=${DEVICE:-cuda}
export LIMIT DEVICE
if [ "$DEVICE" = cuda ]; then
  . "$(dirname "$0")/build.sh"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  export NCCL_NVLS_ENABLE=0 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
  NPROC=gpus
else
  set -euo pipefail
  NODE=node
  NPROC=2
fi
patina=$PWD/bin/patina.js
cd "$(mktemp -d)"
# Room for checkpoints is asked for before the first update; none is written here, so a sparse disk will do.
if [ "$DEVICE" = cuda ] && [ "$(df --output=avail -BG . | tail -1 | tr -dc 0-9)" -lt 450 ]; then
  mkdir -p runs
  truncate -s 600G disk && mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 disk && mount -o loop disk runs
fi
"$NODE" "$patina" train quickstart --dry-run --set device=cpu >/dev/null 2>&1
# Without the quickstart's settings for pictures, which are for its own small tower.
cp -r runs/quickstart/tokenizer . && rm -f tokenizer/*processor*.json
"$NODE" -e '
  const { readFileSync, writeFileSync } = require("node:fs");
  const { SHAPE, DEVICE, LIMIT } = process.env;
  const records = JSON.parse(readFileSync("runs/quickstart/questions.json", "utf8"));
  const text = records.filter((_, i) => i % 8 === 0).map(({ id }, i) => ({ id: `text-${id}`, conversations: [
    { from: "human", value: `What is ${i} plus one?` }, { from: "gpt", value: `${i + 1}.` }] }));
  writeFileSync("runs/quickstart/mixed.json", JSON.stringify([...records, ...text]));
  const small = SHAPE === "small";
  const config = {
    model_type: "llava", architectures: ["LlavaForConditionalGeneration"], image_token_index: 128257, vision_feature_layer: -2,
    vision_config: { model_type: "clip_vision_model", image_size: 336, patch_size: 14,
      ...(small ? { hidden_size: 64, intermediate_size: 128, num_hidden_layers: 3, num_attention_heads: 4 }
        : { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24, num_attention_heads: 16 }) },
    text_config: { model_type: "llama", vocab_size: 128320, rope_theta: 500000, max_position_embeddings: 8192, rms_norm_eps: 1e-5,
      ...(small ? { hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2 }
        : { hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 }) },
  };
  config.image_token_index = JSON.parse(readFileSync("tokenizer/tokenizer.json", "utf8")).added_tokens.find(({ content }) => content === "<image>").id;
  writeFileSync("forty.json", JSON.stringify({
    name: "forty", model: { config, tokenizer: "./tokenizer" },
    train: { vision: { lora: { rank: 64, alpha: 16, dropout: 0.05 } }, projector: "full", decoder: "full" },
    data: { sources: ["./runs/quickstart/mixed.json"] }, optimizer: { learningRate: 2e-5 }, schedule: { updates: 1000 },
    batchSize: 1, accumulate: 1, device: DEVICE, checkpoints: { everyUpdates: 5000 },
    ...(LIMIT > 0 && { memory: { limit: Number(LIMIT) } }),
  }));
'
alone=0
timeout -s KILL "${SECONDS_EACH:-200}" "$NODE" "$patina" train forty.json --json --set run.name=alone --max-updates 1 >alone.jsonl 2>alone.err || alone=$?
echo "one process: exit code $alone"
tail -4 alone.err
# Ended as soon as it has trained so long: its checkpoint would be 112 GB.
for arguments in "parallel.zero=3 parallel.offload=optimizer" "parallel.zero=3 parallel.offload=optimizer optimizer.clipNorm=null"; do
  rm -f shared.jsonl
  sets=()
  for each in $arguments; do sets+=(--set "$each"); done
  timeout -s KILL "${SECONDS_EACH:-200}" "$NODE" "$patina" train forty.json --json --nproc "$NPROC" "${sets[@]}" >shared.jsonl 2>shared.err &
  pid=$!
  while kill -0 $pid 2>/dev/null && [ "$(grep -c '"type":"update"' shared.jsonl)" -lt "$UPDATES" ]; do sleep 0.5; done
  kill -KILL $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  echo "$arguments, on all cards:"
  tail -3 shared.err
  "$NODE" -e '
    const events = require("node:fs").readFileSync("shared.jsonl", "utf8").split("\n").filter(Boolean).flatMap((line) => { try { return [JSON.parse(line)]; } catch { return []; } });
    for (const { statements } of events.filter(({ type }) => type === "start")) for (const each of statements) console.log("  " + each);
    for (const e of events.filter(({ type }) => type === "update")) {
      const memory = (e.ranks ?? [e.memory]).map(({ peakBytes }) => (peakBytes / 2 ** 30).toFixed(2)).join(" ");
      console.log("  update", e.update, "loss", e.loss?.toFixed(4), "tokens", e.counts.tokens, "s", e.seconds.toFixed(2), "GiB a card", memory);
    }'
  rm -rf runs/forty-*
  sleep 3
done
[ $alone -eq 5 ]
