#!/usr/bin/env bash
# What the training step wants of a GPU, in one call of nine minutes at most: that our kernels and blocks are right there, then rows beside the
# peer's (transformers + peft, with Liger's kernels and bitsandbytes). Says of each part what failed; ends with an error if one did.
#
#   PARTS="checks same parity rows" bash bench/gpu/step.sh [ROWS.txt [FIRST]]
#
# ROWS.txt rows of Patina and of the peer as bench/gpu/step-rows.txt has them (that file); FIRST the line of it to begin with, for a second call:
#          the first of those that this one says were not done
# PARTS    checks: operators and what they cost, blocks, what a step waits for; same: Patina and the peer do the same work; parity: the fixtures on
#          the card at LEVELS; rows
# OUT      a folder for rows.txt, which grows row by row (/tmp/patina)
# UNTIL    seconds after which nothing more begins, and what runs is ended (530); EACH seconds of a row at most (120)
#
# Peers want the wheels that pack.sh leaves in .gpu/.
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
  ended=$code
  grep -E "$show" /tmp/patina/part.out | head -60 || true
  echo "$title: exit code $code after $SECONDS s"
  [ $code -eq 0 ] || { failed=1; tail -15 /tmp/patina/part.out; }
}
# A row of the table.
row() { # number, settings, command...
  if [ "$(left)" -lt 10 ]; then
    undone+=("$1")
    return 0
  fi
  part "$1 $2" '^(PATINA|PROFILE|PEER|[A-Za-z_.]*Error)\b|out of memory|failed' timeout -k 5 "${EACH:-120}" "${@:3}" </dev/null
  if [ "$ended" -ge 124 ] && [ "$(left)" -le 0 ]; then undone+=("$1"); fi
  grep -shE '^(PATINA|PEER)' /tmp/patina/part.out >>"${OUT:-/tmp/patina}/rows.txt" || true
}
tests() { part "$1" '(FAIL|×|Error:|Tests |Test Files |cannot be used)' "$NODE" node_modules/vitest/vitest.mjs run --no-color "${@:2}"; }

for each in ${PARTS:-checks same parity rows}; do
  case $each in
    checks)
      tests operators src/torch/autograd.test.ts src/torch/block-operators.test.ts src/torch/low-rank.test.ts src/torch/projection.test.ts \
        src/torch/counters.test.ts src/torch/cross-entropy.test.ts src/torch/adamw.test.ts src/torch/adamw-int8.test.ts \
        src/torch/fp8.test.ts src/nn/fp8.test.ts src/nn/nf4.test.ts
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
    same)
      part "a shallow model and a batch of the peer's" . python3 bench/gpu/same_work.py /tmp/patina/same
      part "the same work" . "$NODE" dist/bench/same-work.js /tmp/patina/same --policy keep,products,attention,recompute
      rm -rf /tmp/patina/same
      ;;
    rows)
      if compgen -G '.gpu/*.whl' >/dev/null; then
        if [ ! -e /tmp/patina/wheels ]; then
          rm -rf /tmp/patina/wheels.part
          python3 -m pip install -q --no-index --no-deps --target /tmp/patina/wheels.part .gpu/*.whl
          mv /tmp/patina/wheels.part /tmp/patina/wheels
        fi
        export PYTHONPATH=/tmp/patina/wheels
      fi
      python3 -c 'import torch, transformers, peft; print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)'
      number=0
      undone=()
      while read -r whose settings; do
        number=$((number + 1))
        [ "$number" -ge "${2:-1}" ] || continue
        # shellcheck disable=SC2086 # words of their own
        case $whose in
          patina) row "$number" "$settings" "$NODE" dist/bench/train.js ${settings/--profile/--profile /tmp/patina/traces} --steps 4 ;;
          peer) row "$number" "$settings" env N=4 $settings python3 bench/gpu/train_peer.py ;;
          '#'* | '') ;;
          *) echo "there is no $whose: patina, peer" && exit 2 ;;
        esac
      done <"${1:-bench/gpu/step-rows.txt}"
      if [ ${#undone[@]} -gt 0 ]; then
        echo "no time left for rows ${undone[*]}"
        failed=1
      fi
      ;;
    *)
      echo "there is no part $each: checks, same, parity, rows"
      exit 2
      ;;
  esac
done
echo "finished after $SECONDS s"
exit $failed
