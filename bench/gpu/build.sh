#!/usr/bin/env bash
# Sourced by the scripts beside it, on a GPU machine without Node and without a network: unpacks what was carried in .gpu/ (node.xz,
# node_modules.tar.xz, dist.tar.xz) and builds the addon against the torch of python3. Leaves $NODE, and PATINA_ADDON set.
set -euo pipefail
TORCH=$(python3 -c 'import importlib.util, os; print(os.path.dirname(importlib.util.find_spec("torch").origin))')
mkdir -p /tmp/patina
NODE=/tmp/patina/node
[ -x "$NODE" ] || { xz -dc .gpu/node.xz >"$NODE" && chmod +x "$NODE"; }
[ -e node_modules ] || tar xJf .gpu/node_modules.tar.xz
[ .gpu/dist.tar.xz -ot dist ] || { tar xJf .gpu/dist.tar.xz && touch dist; }
cmake -G Ninja -S native -B /tmp/patina/addon -DCMAKE_BUILD_TYPE=Release -DPATINA_LIBTORCH="$TORCH" \
  -DNODE_API_HEADERS="$PWD/node_modules/node-api-headers/include" >/tmp/patina/cmake.log
ninja -C /tmp/patina/addon >/tmp/patina/ninja.log || { tail -30 /tmp/patina/ninja.log; exit 1; }
export PATINA_ADDON=/tmp/patina/addon
