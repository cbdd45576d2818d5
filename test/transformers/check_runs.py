"""Loads what `patina train` leaves in transformers and peft: whole models without a warning, a missing or an unexpected key; adapters with the logits of their merged export; both stop where answers were taught to end.

    python test/transformers/check_runs.py FIXTURES [VARIANT ...]

FIXTURES as for check_export.py. Needs torch, transformers 5, peft, pillow, safetensors. Not a part of the tests.
"""
import json, os, shutil, subprocess, sys, tempfile
import torch, transformers
from peft import PeftModel
from safetensors.torch import load_file
from check_export import ROOT, check, error, export, load, logits, read_json, said
import check_export

WHOLE = ["train.vision=full", "train.projector=full", "train.decoder=full"]


def patina(*arguments, cwd):
    done = subprocess.run(["node", f"{ROOT}/bin/patina.js", *arguments], capture_output=True, text=True, cwd=cwd)
    if done.returncode: raise SystemExit(f"{arguments} ended with {done.returncode}: {done.stderr}")


def write_recipe(out):
    colours = ["red", "green", "blue", "white"]
    records = [{"id": i, "conversations": [{"from": "human", "value": f"say {i}"}, {"from": "gpt", "value": colours[i % 4]}]} for i in range(8)]
    with open(f"{out}/data.json", "w") as file: json.dump(records, file)
    recipe = {
        "name": "t", "model": {"from": "."}, "data": {"sources": ["data.json"], "workers": 0}, "optimizer": {"learningRate": 0.01},
        "precision": {"compute": "fp32"}, "text": {"maxLength": 256}, "batchSize": 4, "device": "cpu", "threads": 1, "run": {"root": "runs", "tensorboard": False},
    }
    with open(f"{out}/r.yaml", "w") as file: json.dump(recipe, file)


def train(out, name, model, *settings):
    """Trains two updates; returns the checkpoint."""
    sets = [f"model={json.dumps(model)}", f"run.name={name}", *settings]
    patina("train", "r.yaml", "--max-updates", "2", *[part for each in sets for part in ("--set", each)], cwd=out)
    return f"{out}/runs/{name}/checkpoints/update-00000002"


def ends_of(folder):
    ends = read_json(f"{folder}/generation_config.json").get("eos_token_id")
    return ends if isinstance(ends, list) else [ends]


def check_whole(name, folder, inputs, end):
    """Returns the logits."""
    said.clear()
    model, info = load(folder)
    check(name, "keys", not info, str(info) if info else "")
    processor = transformers.AutoProcessor.from_pretrained(folder)
    check(name, "image token", processor.tokenizer.convert_tokens_to_ids(processor.image_token) == model.config.image_token_id)
    stops = model.generation_config.eos_token_id
    check(name, "stops", end in (stops if isinstance(stops, list) else [stops]) and end in ends_of(folder), "" if end in ends_of(folder) else str(ends_of(folder)))
    prompt = processor.apply_chat_template([{"role": "user", "content": [{"type": "text", "text": "say 1"}]}], add_generation_prompt=True)
    check(name, "prompt", "say 1" in prompt)
    found = logits(model, inputs)
    check(name, "warnings", not said, "; ".join(said))
    return found


def check_adapter(name, base, checkpoint, inputs, out, end, pieces=()):
    export(checkpoint, *pieces, "--merge", "--to", "hf", f"{out}/merged-{name}")
    merged = check_whole(f"{name} merged", f"{out}/merged-{name}", inputs, end)
    said.clear()
    model = PeftModel.from_pretrained(load(base)[0], checkpoint).eval()
    e = error(logits(model, inputs), merged, inputs["attention_mask"].bool())
    check(name, "logits by peft", e <= 2e-5, f"{e:.1e}")
    # PEFT asks for what transformers has renamed.
    other = [each for each in said if "is_gradient_checkpointing" not in each]
    check(name, "warnings", not other, "; ".join(other))


def check_variant(fixture, out):
    f = lambda name: os.path.abspath(f"{fixture}/{name}")
    variant = os.path.basename(fixture)
    write_recipe(out)
    stored = load_file(f("inputs.safetensors"))
    inputs = {k: stored[f"0.{k}"] for k in ("input_ids", "attention_mask", "pixel_values")}
    tokens = read_json(f("hf/tokenizer.json"))["added_tokens"]
    end = next(t["id"] for t in tokens if t["content"] == "<|eot_id|>")

    shutil.copytree(f("official"), f"{out}/official"), shutil.copytree(f("clip"), f"{out}/clip")
    for each in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"): shutil.copy(f(f"hf/{each}"), f"{out}/official/{each}")
    # A decoder that ends otherwise than the template, as Llama-3-8B does.
    shutil.copytree(f("hf"), f"{out}/base")
    os.remove(f"{out}/base/chat_template.jinja")
    starts = {
        "hf": {"from": f("hf")},
        "hf-2025": {"from": f("hf-2025")},
        "official": {"from": f"{out}/official"},
        "xtuner": {"from": f("xtuner/iter_100.pth"), "llm": f("llm"), "vision": f("clip")},
        "parts": {"llm": f("llm"), "vision": f("clip")},
    }
    for name, model in starts.items():
        check_whole(f"{variant} whole from {name}", train(out, f"whole-{name}", model, *WHOLE), inputs, end)
    check_whole(f"{variant} whole by llama3_chat", train(out, "template", {"from": f"{out}/base"}, *WHOLE, "text.template=llama3_chat", "text.system=You are brief."), inputs, end)
    lora = '{"lora":{"rank":4,"alpha":8}}'
    dora = '{"lora":{"rank":4,"alpha":8,"dora":true}}'
    rslora = '{"lora":{"rank":4,"alpha":8,"rslora":true}}'
    hf = {"from": f("hf")}
    runs = {
        "lora": [hf, f"train.decoder={lora}"],
        "dora": [hf, f"train.decoder={dora}"],
        "rslora, the tower too": [hf, f"train.decoder={rslora}", f"train.vision={lora}"],
        "tower by lora, decoder full": [hf, f"train.vision={lora}", "train.decoder=full"],
        "norms saved": [hf, 'train.decoder={"lora":{"rank":4,"modulesToSave":["*.norm"]}}'],
        "embeddings saved": [hf, 'train.decoder={"lora":{"rank":4,"modulesToSave":["*embed_tokens"]}}'],
    }
    for name, (model, *settings) in runs.items():
        run = name.replace(" ", "-").replace(",", "")
        check_adapter(f"{variant} {name}", f("hf"), train(out, run, model, *settings), inputs, f"{out}", end)
    later = {
        "lora that stays, a projector trains": [{"from": f"{out}/runs/lora"}, "train.decoder=frozen"],
        "dora that is folded, lora trains": [{"from": f"{out}/runs/dora"}, f"train.vision={lora}", "train.decoder=frozen"],
        "a projector that stays": [{**hf, "projector": f"{out}/runs/lora"}, "train.projector=frozen", f"train.decoder={lora}"],
        "a decoder of adapters, the tower by lora": [{"from": f"{out}/runs/lora"}, f"train.vision={lora}", "train.projector=frozen", "train.decoder=frozen"],
        "an adapter over a tower that was trained": [{"from": train(out, "tower", hf, "train.vision=full", "train.decoder=frozen")}, f"train.vision={lora}", "train.decoder=frozen"],
    }
    for name, (model, *settings) in later.items():
        run = name.replace(" ", "-").replace(",", "")
        check_adapter(f"{variant} {name}", f("hf"), train(out, run, model, *settings), inputs, f"{out}", end)


if __name__ == "__main__":
    root, *variants = sys.argv[1:]
    for variant in variants or sorted(d for d in os.listdir(root) if os.path.exists(f"{root}/{d}/facts.json")):
        with tempfile.TemporaryDirectory() as out: check_variant(f"{root}/{variant}", out)
    print(f"{check_export.failures} failures")
    sys.exit(1 if check_export.failures else 0)
