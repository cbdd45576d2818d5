#!/usr/bin/env bash
# Packs what a GPU machine without Node and without a network lacks into .gpu/ (ignored by git): Node, the node_modules that running and
# testing need, dist/ as it is, and wheels of what the peer wants. The GPU machine gets this folder and the checkout.
#
#   bash bench/gpu/pack.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .gpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -f .gpu/node.xz ]; then
  cp "$(readlink -f "$(command -v node)")" "$work/node"
  strip "$work/node" || true
  xz -T0 -6 -c "$work/node" >.gpu/node.xz
fi
cp -r node_modules "$work/"
cd "$work/node_modules"
# Linters and browsers stay behind; so do types and sources. (Tests of the door transpile with TypeScript.)
rm -rf typescript/lib/{tsc,_tsc,tsserver,_tsserver,typingsInstaller,_typingsInstaller}.js @typescript-eslint typescript-eslint eslint @eslint prettier @img/*musl* playwright* @playwright @types esquery ts-api-utils .cache .vite
rm -rf zod/src @huggingface/*/src
find . \( -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.map' -o -name '*.md' \) -delete
cd "$OLDPWD"
tar c -C "$work" node_modules | xz -T0 -9 >.gpu/node_modules.tar.xz
tar c --exclude '*.map' --exclude '*.d.ts' dist | xz -T0 -6 >.gpu/dist.tar.xz
if ! compgen -G '.gpu/*.whl' >/dev/null; then
  python3 -m pip download -q --no-deps -d "$work/wheels" liger-kernel==0.8.5 bitsandbytes==0.50.2
  # Kernels for other cards and CUDAs than that machine's make nine tenths of it.
  python3 - "$work"/wheels/*.whl <<'SCRIPT'
import re, sys, zipfile
for wheel in sys.argv[1:]:
    target = '.gpu/' + wheel.rpartition('/')[2]
    with zipfile.ZipFile(wheel) as all_files, zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as kept:
        for name in all_files.namelist():
            if not re.search(r'_(cuda(?!130)|rocm|xpu)\w*\.so$', name):
                kept.writestr(name, all_files.read(name))
SCRIPT
fi
du -sh .gpu
