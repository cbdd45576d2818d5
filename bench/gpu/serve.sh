#!/usr/bin/env bash
# Greedy answers to many at once on the LLaVA-Llama-3-8B shape: Patina over HTTP, then transformers' batched generate without any
# server, on one GPU in one run; before that, the tests of generation and serving on that GPU.
#
#   bash bench/gpu/serve.sh [arguments of dist/bench/serve.js]
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
python3 -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
[ "${TESTS:-1}" = 0 ] || "$NODE" node_modules/vitest/vitest.mjs run src/generate src/server
"$NODE" dist/bench/serve.js "$@"
[ "${PEER:-1}" = 0 ] || python3 bench/gpu/serve_peer.py 2>&1 | grep -E '^PEER|Error' || true
