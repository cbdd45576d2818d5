#!/usr/bin/env bash
# Greedy answers on the LLaVA-Llama-3-8B shape: Patina, then transformers' generate, on one GPU in one run.
#
#   bash bench/gpu/chat.sh [arguments of dist/bench/chat.js]
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
python3 -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
"$NODE" dist/bench/chat.js "$@"
[ "${PEER:-1}" = 0 ] || python3 bench/gpu/chat_peer.py 2>&1 | grep -E '^PEER|Error' || true
