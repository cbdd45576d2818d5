"""Weights in NF4 between Patina and transformers: each loads what the other wrote, with no missing or unexpected key and the same logits.

    python test/transformers/check_nf4.py [FOLDER]

FOLDER is of the shape of test/fixtures/nf4/checkpoint (the default). Needs torch, transformers 5.17, bitsandbytes 0.50 (its CPU library does),
accelerate, safetensors. Not a part of the tests. `npm run parity -- nf4` holds the other way, transformers to Patina, against the same logits.
"""
import json, os, subprocess, sys, tempfile
import torch, transformers
from safetensors.torch import load_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = sys.argv[1] if len(sys.argv) > 1 else f"{ROOT}/test/fixtures/nf4/checkpoint"
transformers.utils.logging.disable_progress_bar()
failures = 0


def check(what, passed, detail=""):
    global failures
    failures += not passed
    print(f"{'ok  ' if passed else 'FAIL'} {what} {detail}", flush=True)


def export(*arguments):
    done = subprocess.run(["node", f"{ROOT}/bin/patina.js", "export", *arguments], capture_output=True, text=True)
    if done.returncode: raise SystemExit(f"export {arguments} ended with {done.returncode}: {done.stderr}")


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.bfloat16, output_loading_info=True)
    for module in model.modules():
        if type(module).__name__ != "Linear4bit": continue
        # Its path for AVX-512 on CPUs rounds scales to bf16, and takes rows of whole blocks alone.
        module.support_avx512bf16_for_cpu = False
        module.compute_dtype, module.compute_type_is_set = torch.float32, True
    return model.eval(), {kind: sorted(map(str, names)) for kind, names in info.items() if names}


parity = load_file(f"{FOLDER}/parity.safetensors")
with tempfile.TemporaryDirectory() as temporary:
    for form in ("nf4", "nf4-double"):
        out = f"{temporary}/{form}"
        export(FOLDER, "--to", "hf", out, "--quantise", form)
        with open(f"{out}/config.json") as file: config = json.load(file)
        double = config["quantization_config"]["bnb_4bit_use_double_quant"]
        model, info = load(out)
        check(f"{form}: every key is there and known", not info, info or "")
        layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
        check(f"{form}: matrices in 4 bits", len(layers) == 7 * model.config.num_hidden_layers, len(layers))
        check(f"{form}: scales in {8 if double else 32} bits", all(bool(m.weight.quant_state.nested) == double for m in layers))
        theirs, _ = load(FOLDER)
        with torch.no_grad(): a, b = model(parity["input_ids"]).logits.float(), theirs(parity["input_ids"]).logits.float()
        same = theirs.config.quantization_config.bnb_4bit_use_double_quant == double
        error = float((a - b).abs().max() / b.abs().max())
        # The other form rounds the scales otherwise.
        check(f"{form}: logits of what transformers wrote", error == 0 if same else error < 0.02, error)
    dense = f"{temporary}/dense"
    export(FOLDER, "--to", "hf", dense)
    wide = transformers.AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32).eval()
    with torch.no_grad(): logits = wide(parity["input_ids"]).logits
    error = float((logits - parity["logits_float32"]).abs().max() / parity["logits_float32"].abs().max())
    check("dense: logits in float32 of what the codes stand for", error < 1e-4, error)
raise SystemExit(1 if failures else 0)
