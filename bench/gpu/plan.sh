#!/usr/bin/env bash
# The planner's figures beside those of this card: for each configuration a line of JSON, and at the end how far they lie apart.
#
#   bash bench/gpu/plan.sh [CONFIGS.json]
#
# CONFIGS.json is a list as the head of bench/plan.ts describes it (bench/gpu/plan-configs.json). Rows are added to $OUT/plan.jsonl, or to
# the file that RESULTS names, and what is there is not measured again. No row begins after $UNTIL seconds (540). Rows with a limit measure no
# time, and may share the card: with TOGETHER=136 as many at once as 136 GiB of it hold (bench/gpu/plan-limits.json on an H200).
SECONDS=0
. "$(dirname "$0")/build.sh"
set +e
export NCCL_NVLS_ENABLE=0
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >&2
"$NODE" dist/bench/plan.js "${1:-bench/gpu/plan-configs.json}" --until "$((${UNTIL:-540} - SECONDS))" \
  --together "${TOGETHER:-0}" --results "${RESULTS:-${OUT:-/tmp/patina}/plan.jsonl}"
