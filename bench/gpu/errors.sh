#!/usr/bin/env bash
# What a user reads when a GPU does not do: a wrong index, too large a tensor, a card that another process has filled. Prints each
# message with its exit code; fails if one is not the typed error that it should be.
#
#   bash bench/gpu/errors.sh
. "$(dirname "$0")/build.sh"
failed=0
expect() { # exit-code text command...
  local code=$1 text=$2 status=0
  shift 2
  "$@" >/tmp/patina/out 2>&1 || status=$?
  echo "--- exit $status: ${*:2}"
  cat /tmp/patina/out
  [ "$status" = "$code" ] && grep -q "$text" /tmp/patina/out || { echo "EXPECTED exit $code with '$text'"; failed=1; }
}
chat=(bin/patina.js chat test/fixtures/llava/llama3/hf --device)
# A tensor of so many GiB, its error printed as the command line does.
allocate='import { empty } from "./dist/src/index.js"; import { printError, exitCodeOf } from "./dist/src/cli/print-error.js";
  try { empty([Number(process.argv[1]) * 2 ** 30], { dtype: "uint8", device: "cuda" }); }
  catch (error) { printError(error, process.stderr); process.exitCode = exitCodeOf(error); }'
expect 3 E_DEVICE "$NODE" "${chat[@]}" cuda:7 hello
expect 5 'smaller batches' "$NODE" --input-type=module -e "$allocate" 400
fill() { # MiB to leave
  rm -f /tmp/patina/full
  python3 - "$1" <<'PY' &
import sys, time, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - int(sys.argv[1]) * 2**20, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
open("/tmp/patina/full", "w").close()
time.sleep(600)
PY
  HOG=$!
  trap 'kill $HOG 2>/dev/null || true' EXIT
  while [ ! -e /tmp/patina/full ]; do sleep 1; done
  nvidia-smi --query-gpu=memory.used,memory.total --format=csv,noheader
}
fill 2000
expect 5 'Other processes' "$NODE" --input-type=module -e "$allocate" 4
kill $HOG && wait $HOG || true
fill 100
expect 5 'Other processes' "$NODE" "${chat[@]}" cuda hello
exit $failed
