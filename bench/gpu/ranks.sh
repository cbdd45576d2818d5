#!/usr/bin/env bash
# Updates on the LLaVA-Llama-3-8B shape shared out over the GPUs of one machine: first the tests over NCCL, then Patina and its
# peers (transformers + peft + Liger under FSDP2 and DDP), each case a start of its own. The peers need Liger's wheel in .gpu/
# (pip download --no-deps -d .gpu liger-kernel==0.8.5).
#
#   bash bench/gpu/ranks.sh ["CASE" ...]
#
# CASE: what bench/ranks.ts takes; "peer CASE": what bench/gpu/ranks_peer.py takes, with ranks=N before it. Without any: all rows of
# the table. No case begins after $UNTIL seconds (540). Lines go to $OUT too, if it is set.
SECONDS=0
. "$(dirname "$0")/build.sh"
export NCCL_NVLS_ENABLE=0 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
if compgen -G '.gpu/liger_kernel-*.whl' >/dev/null; then
  python3 -m pip install -q --no-index --no-deps --target /tmp/patina/liger .gpu/liger_kernel-*.whl
  export PYTHONPATH=/tmp/patina/liger
fi
python3 -c 'import torch, transformers, peft; print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)'
"$NODE" node_modules/vitest/vitest.mjs run --isolate --no-color src/parallel/nccl.test.ts 2>&1 | grep -E 'Tests|FAIL|Error' || true
echo "built and tested after $SECONDS s"

if [ $# -eq 0 ]; then
  full=(
    "ranks=1 zero=none rows=4 states=bf16 policies=recompute,keep"
    "zero=3 states=fp32 policies=recompute" "zero=2 states=fp32 policies=recompute"
    "zero=3 states=fp32 reduction=bfloat16 policies=recompute"
    "zero=3 states=bf16 policies=recompute,keep" "zero=2 states=bf16 policies=recompute,keep"
    "zero=3 states=bf16 reshard=0 policies=recompute,keep"
    "peer ranks=2 par=fsdp2 states=fp32 variants=ck" "peer ranks=2 par=fsdp2 states=fp32 reduce=bf16 variants=ck"
    "peer ranks=2 par=fsdp2 states=bf16 reduce=bf16 variants=ck,keep"
    "peer ranks=2 par=fsdp2 states=bf16 reduce=bf16 reshard=0 variants=ck,keep"
    "zero=3 states=fp32 offload=optimizer steps=5" "zero=3 states=fp32 offload=optimizer clip=1 steps=5"
  )
  lora=(
    "ranks=1 zero=none rows=4 train=lora policies=recompute,keep"
    "train=lora states=bf16 zero=0 policies=recompute,keep" "train=lora states=bf16 zero=3 policies=recompute,keep"
    "peer ranks=2 par=ddp train=lora variants=ck,keep" "peer ranks=2 par=fsdp2 train=lora variants=ck,keep"
  )
  set -- "${full[@]}" "${lora[@]}"
fi
log=${OUT:-/tmp/patina}/ranks.txt
for each in "$@"; do
  if [ $SECONDS -gt "${UNTIL:-540}" ]; then echo "-- not run, no time left: $each" | tee -a "$log"; continue; fi
  if [[ $each == peer\ * ]]; then
    read -r _ ranks rest <<<"$each"
    # shellcheck disable=SC2086
    timeout -k 5 120 python3 -m torch.distributed.run --master-addr 127.0.0.1 --master-port 29511 --nproc-per-node "${ranks#ranks=}" bench/gpu/ranks_peer.py $rest 2>/tmp/patina/peer.log | grep PEER | tee -a "$log" \
      || { echo "PEER $rest | failed: $(grep -E 'Error' /tmp/patina/peer.log | tail -1)" | tee -a "$log"; }
  else
    timeout -k 5 150 "$NODE" dist/bench/ranks.js "$each" 2>/tmp/patina/case.log | tee -a "$log" || tail -5 /tmp/patina/case.log
  fi
done
