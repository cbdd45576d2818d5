#!/usr/bin/env bash
# The door on a GPU: builds the addon against the torch of python3, runs the tests of tensors, layers, optimizer and step there (those
# that need a GPU run because there is one), and prints what calls cost.
#
#   bash bench/gpu/door.sh
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
python3 -c 'import torch; print("torch", torch.__version__)'
"$NODE" bin/patina.js doctor || true
"$NODE" node_modules/vitest/vitest.mjs run --no-color src/torch src/nn src/optim src/train/step/step.test.ts src/train/step/update.test.ts 2>&1 | tail -60
"$NODE" dist/bench/door.js
