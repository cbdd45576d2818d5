#!/usr/bin/env bash
# Training steps on the LLaVA-Llama-3-8B shape: Patina, then transformers + peft, on one GPU in one run.
#
#   bash bench/gpu/train.sh [arguments of dist/bench/train.js]
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
python3 -c 'import torch, transformers, peft; print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)'
"$NODE" dist/bench/train.js "$@"
[ "${PEER:-1}" = 0 ] || {
  MODE=lora CK=1 python3 bench/gpu/train_peer.py 2>&1 | grep -E '^PEER|Error' || true
  MODE=lora CK=0 python3 bench/gpu/train_peer.py 2>&1 | grep -E '^PEER|Error' || true
  MODE=full CK=1 python3 bench/gpu/train_peer.py 2>&1 | grep -E '^PEER|Error' || true
}
