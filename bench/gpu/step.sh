#!/usr/bin/env bash
# What the training step wants of a GPU, in one call of nine minutes at most: that our kernels and blocks are right there, then rows with
# profiles. Says of each part what failed; ends with an error if one did.
#
#   PARTS="checks parity rows" bash bench/gpu/step.sh
#   PARTS=rows ROWS="mix:lora:recompute one-600:lora:products:bases=nf4" bash bench/gpu/step.sh
#
# PARTS    checks: operators and what they cost, blocks, what a step waits for; parity: the fixtures on the card at LEVELS; rows: of bench/train.ts
# ROWS     case:mode:policy[:argument=value...], the arguments those of bench/train.ts
# UNTIL    seconds after which nothing more begins, and what runs is ended (530)
SECONDS=0
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
failed=0
left() { echo $((${UNTIL:-530} - SECONDS)); }

# Runs a command for as long as there is time, and shows what of it matters.
part() { # title, what to show, command...
  local title=$1 show=$2 code=0
  shift 2
  if [ "$(left)" -lt 10 ]; then
    echo "$title: no time left"
    failed=1
    return 0
  fi
  timeout -k 5 "$(left)" "$@" >/tmp/patina/part.out 2>&1 || code=$?
  grep -E "$show" /tmp/patina/part.out | head -60 || true
  echo "$title: exit code $code after $SECONDS s"
  [ $code -eq 0 ] || { failed=1; tail -15 /tmp/patina/part.out; }
}
tests() { part "$1" '(FAIL|×|Error:|Tests |Test Files |cannot be used)' "$NODE" node_modules/vitest/vitest.mjs run --no-color "${@:2}"; }

for each in ${PARTS:-checks parity rows}; do
  case $each in
    checks)
      tests operators src/torch/block-operators.test.ts src/torch/low-rank.test.ts src/torch/projection.test.ts \
        src/torch/counters.test.ts src/torch/cross-entropy.test.ts src/torch/adamw.test.ts src/torch/adamw-int8.test.ts src/torch/fp8.test.ts src/nn/fp8.test.ts src/nn/nf4.test.ts
      tests blocks src/models/trained-block-gpu.test.ts src/nn/attention.test.ts src/torch/meta-graph.test.ts
      tests waits src/train/step/no-waits.test.ts src/torch/host-memory.test.ts
      part "what operators cost" . "$NODE" dist/bench/operators.js --device cuda
      ;;
    parity)
      for level in ${LEVELS:-products recompute}; do
        for kind in llava train; do
          for shape in llama3 llama31-tied-small; do
            part "parity of $kind, $shape, $level" '(FAIL|quantit|^micro-batch)' "$NODE" dist/parity/main.js $kind \
              "test/fixtures/llava/$shape" --device cuda --policy "$level" --packed
          done
        done
      done
      ;;
    rows)
      for row in ${ROWS:-4x2048:lora:products 4x2048:lora:products:dropout=0.05 stage1-16:projector:products one-600:lora:products \
        mix:lora:recompute stage1-16:projector:recompute text-16x512:lora:products 4x2048:full-fp32:recompute 4x2048:lora:recompute:bases=nf4 \
        one-600:lora:products:bases=nf4}; do
        IFS=: read -r of mode policy more <<<"$row"
        arguments=()
        for argument in ${more//:/ }; do arguments+=("--${argument%%=*}" "${argument#*=}"); done
        part "$row" '^(PATINA|PROFILE)' "$NODE" dist/bench/train.js --cases "$of" --modes "$mode" --policies "$policy" --steps 3 \
          --profile /tmp/patina/traces "${arguments[@]}"
      done
      ;;
    *)
      echo "there is no part $each: checks, parity, rows"
      exit 2
      ;;
  esac
done
echo "finished after $SECONDS s"
exit $failed
