#!/usr/bin/env bash
# The LLaVA fixtures on CUDA: logits, features, gradients and layouts within the stated tolerances.
#
#   bash bench/gpu/parity.sh
. "$(dirname "$0")/build.sh"
for folder in test/fixtures/llava/llama3 test/fixtures/llava/llama31-tied-small; do
  "$NODE" dist/parity/main.js llava "$folder" --device cuda | grep -E 'FAIL|quantit' || true
done
