#!/usr/bin/env bash
# Our own kernels under compute-sanitizer on a few cases each: nothing is read or written out of bounds (memcheck), read before it was
# written (initcheck), or written by two threads at once (racecheck).
#
#   TOOLS="memcheck racecheck" bash bench/gpu/sanitize.sh [FILTER of the tests' names]
#
# SANITIZER  where it is, if not on the PATH;  UNTIL  seconds after which nothing more begins, and what runs is ended (530)
SECONDS=0
. "$(dirname "$0")/build.sh"
sanitizer=${SANITIZER:-$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1 || true)}
[ -n "$sanitizer" ] || { echo "there is no compute-sanitizer here: set SANITIZER"; exit 2; }
# Property tests take a handful of cases; libtorch's memory comes piece by piece, so that what lies beyond a tensor is nobody's.
export PATINA_CASES=${PATINA_CASES:-4} PYTORCH_NO_CUDA_MEMORY_CACHING=1
failed=0
for tool in ${TOOLS:-memcheck racecheck}; do
  for file in src/torch/low-rank.test.ts src/torch/block-operators.test.ts src/torch/counters.test.ts src/torch/cross-entropy.test.ts src/torch/adamw.test.ts \
    src/torch/adamw-int8.test.ts src/torch/fp8.test.ts src/nn/nf4.test.ts; do
    left=$((${UNTIL:-530} - SECONDS))
    [ "$left" -ge 20 ] || { echo "$tool $file: no time left"; failed=1; continue; }
    code=0
    timeout -k 5 "$left" "$sanitizer" --tool "$tool" --target-processes all --error-exitcode 7 --print-limit 3 \
      "$NODE" node_modules/vitest/vitest.mjs run --no-color --pool forks --testTimeout 300000 "$file" ${1:+-t "$1"} \
      >/tmp/patina/sanitize.out 2>&1 || code=$?
    grep -E '(ERROR SUMMARY|RACECHECK SUMMARY|FAIL|Tests )' /tmp/patina/sanitize.out | sort | uniq -c || true
    echo "$tool $file: exit code $code after $SECONDS s"
    [ $code -eq 0 ] || { failed=1; grep -B2 -A12 -m2 '========= [A-Z]' /tmp/patina/sanitize.out | head -40; }
  done
done
exit $failed
