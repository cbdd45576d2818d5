#!/usr/bin/env bash
# Training steps on shapes of LLaVA: Patina, then transformers + peft, on one GPU in one run; then the peer with Liger kernels, if
# .gpu/ carries their wheel (pip download --no-deps -d .gpu liger-kernel==0.8.5).
#
#   CASES="4x2048 mix" PEERS="MODE=lora,CK=0 LIGER=1,MODE=lora,CK=0" bash bench/gpu/train.sh [arguments of dist/bench/train.js]
#
# CASES    names of bench/train.ts, with spaces between (4x2048); PEERS settings of train_peer.py for each of them, a run a word
#          (LoRA and full, with and without Liger); PEERS= runs none
# SAME=1   first shows that both do the same work: equal losses and gradients for equal weights on two layers
#          QLoRA and moments in 8 bits, where .gpu/ carries bitsandbytes (pip download --no-deps -d .gpu bitsandbytes==0.50.2):
#          CASES=4x2048 PEERS="BASE=nf4,MODE=lora,CK=1 STATES=int8,MODE=full,CK=1" bash bench/gpu/train.sh --modes lora --bases nf4 --states mode,int8
#          CASES=4x2048 PEERS=STATES=int8,MODE=full,CK=1 bash bench/gpu/train.sh --modes full,full-stochastic-ub --states mode,int8 --policies recompute
# UNTIL    seconds after which nothing more begins, and what runs is ended (570)
SECONDS=0
. "$(dirname "$0")/build.sh"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$NODE" --version
python3 -c 'import torch, transformers, peft; print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)'
plain="MODE=lora,CK=1 MODE=lora,CK=0 MODE=full,CK=1"
if compgen -G '.gpu/liger_kernel-*.whl' >/dev/null; then
  python3 -m pip install -q --no-index --no-deps --target /tmp/patina/liger .gpu/liger_kernel-*.whl
  export PYTHONPATH=/tmp/patina/liger
  plain="$plain LIGER=1,MODE=lora,CK=1 LIGER=1,MODE=lora,CK=0 LIGER=1,MODE=full,CK=1"
fi
if compgen -G '.gpu/bitsandbytes-*.whl' >/dev/null; then
  python3 -m pip install -q --no-index --no-deps --target /tmp/patina/bitsandbytes .gpu/bitsandbytes-*.whl
  export PYTHONPATH=/tmp/patina/bitsandbytes${PYTHONPATH:+:$PYTHONPATH}
fi
PEERS=${PEERS-$plain}

# Runs a command for as long as there is time; its rows, or how it failed.
within() { # title command...
  local title=$1 left=$((${UNTIL:-570} - SECONDS)) code=0
  shift
  if [ "$left" -lt 10 ]; then
    echo "$title: no time left"
    return 0
  fi
  timeout -k 5 "$left" "$@" >/tmp/patina/row.out 2>/tmp/patina/row.err || code=$?
  grep -hE '^(PATINA|PROFILE|PEER|\{)' /tmp/patina/row.out || grep -hE 'OutOfMemoryError|Error|failed|there is no' /tmp/patina/row.out /tmp/patina/row.err | tail -1 || true
  [ $code -eq 0 ] || echo "$title: exit code $code after $SECONDS s"
}
if [ "${SAME:-0}" = 1 ]; then
  python3 bench/gpu/same_work.py /tmp/patina/same >/tmp/patina/row.out 2>&1 || tail -3 /tmp/patina/row.out
  "$NODE" dist/bench/same-work.js /tmp/patina/same --policy keep,products,attention,recompute || echo "not the same work"
  rm -rf /tmp/patina/same
fi
for case in ${CASES:-4x2048}; do
  within "Patina $case" "$NODE" dist/bench/train.js --cases "$case" "$@"
  for peer in $PEERS; do
    within "$case $peer" env "CASE=$case" ${peer//,/ } python3 bench/gpu/train_peer.py
  done
done
echo "finished after $SECONDS s"
