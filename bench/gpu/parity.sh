#!/usr/bin/env bash
# The LLaVA fixtures on CUDA, once for each level of what segments keep: logits, features, gradients and layouts, then training runs of
# full, projector, decoder and adapters, within the stated tolerances. All records of a micro-batch lie in one row.
#
#   LEVELS="keep recompute" bash bench/gpu/parity.sh [FOLDER...]
. "$(dirname "$0")/build.sh"
[ $# -gt 0 ] || set -- test/fixtures/llava/llama3 test/fixtures/llava/llama31-tied-small
for level in ${LEVELS:-keep products attention recompute offload}; do
  for folder in "$@"; do
    for kind in llava train; do
      echo "--- $kind $folder $level"
      "$NODE" dist/parity/main.js $kind "$folder" --device cuda --policy "$level" --packed \
        | grep -E 'FAIL|quantit|^micro-batch' || true
    done
  done
done
