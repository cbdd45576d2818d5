#!/usr/bin/env bash
# Training steps on the LLaVA-Llama-3-8B shape: Patina, then transformers + peft, on one GPU in one run; then the peer with Liger
# kernels, if .gpu/ carries their wheel (pip download --no-deps -d .gpu liger-kernel==0.8.5).
#
#   bash bench/gpu/train.sh [arguments of dist/bench/train.js]
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
python3 -c 'import torch, transformers, peft; print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)'
"$NODE" dist/bench/train.js "$@"
[ "${PEER:-1}" != 0 ] || exit 0
peer() { env "$@" python3 bench/gpu/train_peer.py 2>&1 | grep -E '^PEER|Error|failed' || true; }
peer MODE=lora CK=1
peer MODE=lora CK=0
peer MODE=full CK=1
if compgen -G '.gpu/liger_kernel-*.whl' >/dev/null; then
  python3 -m pip install -q --no-index --no-deps --target /tmp/patina/liger .gpu/liger_kernel-*.whl
  export PYTHONPATH=/tmp/patina/liger
  peer LIGER=1 MODE=lora CK=1
  peer LIGER=1 MODE=lora CK=0
  peer LIGER=1 MODE=full CK=1
fi
