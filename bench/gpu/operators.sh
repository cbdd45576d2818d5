#!/usr/bin/env bash
# Our own operators on a GPU: compiles their kernels, holds kernel, composite and CPU against each other over odd shapes and dtypes (twenty
# times the usual cases; bit for bit where the arithmetic is whole numbers), runs what depends on them, and prints what they cost beside
# libtorch's. Fails where a composite stands in for a kernel.
#
#   bash bench/gpu/operators.sh
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
rm -f "$PATINA_ADDON"/kernels-*.cubin
run() { "$NODE" node_modules/vitest/vitest.mjs run --no-color "$@" 2>&1 | tail -40; }
PATINA_FULL=1 run src/torch/counters.test.ts src/torch/block-operators.test.ts src/torch/cross-entropy.test.ts src/torch/adamw.test.ts src/nn/nf4.test.ts src/torch/fp8.test.ts
ls -l "$PATINA_ADDON"/kernels-*.cubin
run src/torch/operators.test.ts src/torch/meta-graph.test.ts src/nn/attention.test.ts src/models/trained-block-gpu.test.ts
"$NODE" dist/bench/operators.js --device cuda 2>/tmp/patina/warnings
! grep 'kernels cannot be used' /tmp/patina/warnings
