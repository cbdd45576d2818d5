#!/usr/bin/env bash
# From files to the first forward pass on the LLaVA-Llama-3-8B shape: Patina and transformers in turn on one GPU, with the files in
# the page cache (warm) and without (cold). DIR: where the checkpoint of 16 GiB goes, and stays. Prints one table.
#
#   bash bench/gpu/load.sh [arguments of dist/bench/load.js --make, such as --layers 4]
. "$(dirname "$0")/build.sh"
DIR=${DIR:-/tmp/patina/llava8b}
DEVICE=${DEVICE:-cuda:0}
export DEVICE
OUT_TABLE=$(mktemp)
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
python3 -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
[ -e "$DIR/config.json" ] || "$NODE" dist/bench/load.js --make "$DIR" "$@"
one() { # cache tool
  local command=("$NODE" dist/bench/load.js "$DIR" --device "$DEVICE") line
  [ "$2" = patina ] || command=(python3 bench/gpu/load_peer.py load "$DIR")
  line=$(START=$(date +%s.%N) "${command[@]}" 2>/tmp/patina/load.err | grep '^LOAD') || { tail -5 /tmp/patina/load.err; return 0; }
  echo "$1 ${line#LOAD }" | tee -a "$OUT_TABLE"
}
cat "$DIR"/*.safetensors >/dev/null
for tool in patina peer patina peer; do one warm $tool; done
for tool in patina peer; do
  python3 bench/gpu/load_peer.py drop "$DIR"
  one cold $tool
done
echo
printf '%-6s %-13s %10s %15s %10s %11s %11s\n' cache tool 'load, s' 'first pass, s' 'process, s' 'anon, GiB' 'RSS, GiB'
while read -r cache tool load pass whole anon rss; do
  printf '%-6s %-13s %10s %15s %10s %11s %11s\n' "$cache" "$tool" "$load" "$pass" "$whole" "$anon" "$rss"
done <"$OUT_TABLE"
