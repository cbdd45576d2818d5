"""Loads what `patina export` writes in transformers and peft: no warning, no missing or unexpected key, the reference's logits and prompts.

    python test/transformers/check_export.py FIXTURES [VARIANT ...]

FIXTURES holds folders such as llama3 (hf, hf-old, hf-2025, hf-2026, official, llm, clip, clip-full, xtuner, adapter-*, facts.json,
inputs.safetensors, outputs.safetensors), or with `hf` alone what of it is about that: `check_export.py test/fixtures/llava siglip-qwen2 next-llama3 onevision-qwen2`. Needs torch, transformers 5.17, peft, pillow, safetensors. Not a part of the tests.
"""
import filecmp, json, logging, os, subprocess, sys, tempfile, warnings
import torch, transformers
from PIL import Image
from safetensors.torch import load_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
said = []


class Listener(logging.Handler):
    def emit(self, record): said.append(f"{record.name}: {record.getMessage()}")


listener = Listener(logging.WARNING)
logging.getLogger().addHandler(listener)
logging.getLogger("transformers").addHandler(listener)
# PEFT asks for what transformers has renamed.
warnings.showwarning = lambda message, *rest, **more: "is_gradient_checkpointing" in str(message) or said.append(f"warning: {message}")
warnings.simplefilter("always")
transformers.utils.logging.disable_progress_bar()
failures = 0


def export(*arguments):
    done = subprocess.run(["node", f"{ROOT}/bin/patina.js", "export", *arguments], capture_output=True, text=True)
    if done.returncode: raise SystemExit(f"export {arguments} ended with {done.returncode}: {done.stderr}")


def read_json(path):
    with open(path) as file: return json.load(file)


def check(name, what, passed, detail=""):
    global failures
    failures += not passed
    if not passed or detail: print(f"{'ok  ' if passed else 'FAIL'} {name}: {what} {detail}", flush=True)


def error(a, b, mask):
    a, b = a[mask], b[mask]
    return float((a - b).abs().max() / b.abs().max())


def load(folder):
    kind = getattr(transformers, read_json(f"{folder}/config.json")["architectures"][0])
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    return model.eval(), {kind: sorted(map(str, names)) for kind, names in info.items() if names}


def logits(model, inputs):
    with torch.no_grad(): return model(**inputs).logits


def check_folder(name, folder, fixture, inputs, expected):
    said.clear()
    model, info = load(folder)
    check(name, "keys", not info, str(info) if info else "")
    e = error(logits(model, inputs), expected, inputs["attention_mask"].bool())
    check(name, "logits", e <= 1e-5, f"{e:.1e}")
    processor = transformers.AutoProcessor.from_pretrained(folder)
    for number, case in enumerate(read_json(f"{fixture}/facts.json")["generation"]):
        content = [{"type": "image"} for _ in case["pictures"]] + [{"type": "text", "text": case["user"]}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [Image.open(f"{fixture}/{p}").convert("RGB") for p in case["pictures"]]
        # The template writes the beginning of the text itself.
        # Those of one text in a list of their own: a LLaVA-OneVision asks how many there are.
        ids = processor(text=[prompt], images=[images] if images else None, add_special_tokens=False, return_tensors="pt")
        check(name, "prompt", prompt == case["prompt"])
        check(name, "prompt ids", ids["input_ids"][0].tolist() == case["input_ids"])
        # An official folder asks for padded pictures; the reference's answers are about cropped ones.
        if images and os.path.exists(f"{fixture}/official") and getattr(processor.image_processor, "do_pad", False):
            ids["pixel_values"] = load_file(f"{fixture}/{os.path.dirname(case['pictures'][0])}/{number}.safetensors")["pixel_values"]
        with torch.no_grad(): out = model.generate(**ids, max_new_tokens=8, do_sample=False)
        check(name, "answer", out[0, len(case["input_ids"]):].tolist() == case["new_tokens"][:8])
    check(name, "warnings", not said, "; ".join(said))


def same_folders(a, b):
    names = sorted(os.listdir(a))
    return names == sorted(os.listdir(b)) and all(filecmp.cmp(f"{a}/{n}", f"{b}/{n}", shallow=False) for n in names)


def check_variant(fixture, out):
    f = lambda name: f"{fixture}/{name}"
    variant = os.path.basename(fixture)
    config = read_json(f("hf/config.json"))
    parts = ["--feature-layer", str(config["vision_feature_layer"]), "--select", config["vision_feature_select_strategy"]]
    stored = load_file(f("inputs.safetensors"))
    inputs = {k: stored[f"0.{k}"] for k in ("input_ids", "attention_mask", "pixel_values", "image_sizes", "batch_num_images") if f"0.{k}" in stored}
    expected = load_file(f("outputs.safetensors"))["logits"]
    sources = {
        **{name: [f(name)] for name in ("hf", "hf-old", "hf-2025", "hf-2026")},
        "official": [f("official"), "--llm", f("llm")],
        "parts": [f("llm"), "--vision", f("clip"), "--projector", f("xtuner/projector/model.safetensors"), *parts],
        "parts with a whole CLIP": [f("llm"), "--vision", f("clip-full"), "--projector", f("xtuner/projector"), *parts],
        "xtuner": [f("xtuner/iter_100.pth"), "--llm", f("llm"), "--vision", f("clip"), *parts],
    }
    for name, arguments in sources.items():
        if not os.path.exists(arguments[0]): continue
        folder = f"{out}/{name.replace(' ', '-')}"
        export(*arguments, "--to", "hf", folder)
        check_folder(f"{variant} {name}", folder, fixture, inputs, expected)
        export(folder, "--to", "hf", f"{folder}-again")
        check(f"{variant} {name}", "written, read, written", same_folders(folder, f"{folder}-again"))
    if not os.path.exists(f("official")): return
    export(f("hf"), "--to", "official", f"{out}/to-official")
    export(f"{out}/to-official", "--to", "hf", f"{out}/from-official")
    check_folder(f"{variant} hf to official to hf", f"{out}/from-official", fixture, inputs, expected)
    check_added_tokens(f"{variant} added tokens", fixture, out, parts, inputs, expected)
    for form in ("lora", "rslora-dora"):
        check_adapter(f"{variant} {form}", f("hf"), f(f"adapter-{form}-final"), f"{out}/{form}", inputs)


def without_tokens(fixture, out):
    """The decoder before anyone added <image> and <pad>, its last two tokens, with a template for text alone."""
    import shutil
    from safetensors.torch import save_file
    shutil.copytree(f"{fixture}/llm", out)
    os.remove(f"{out}/chat_template.jinja")
    for name, change in {
        "config.json": lambda c: c.update(vocab_size=510, pad_token_id=None),
        "tokenizer.json": lambda c: c.update(added_tokens=[t for t in c["added_tokens"] if t["id"] < 510]),
        "tokenizer_config.json": lambda c: [c.pop("image_token"), c.pop("pad_token"), c.update(chat_template="{{ messages[0].content | trim }}")],
    }.items():
        content = read_json(f"{out}/{name}")
        change(content)
        with open(f"{out}/{name}", "w") as file: json.dump(content, file)
    weights = load_file(f"{out}/model.safetensors")
    save_file({k: v[:510].clone() if "embed_tokens" in k or "lm_head" in k else v for k, v in weights.items()}, f"{out}/model.safetensors", {"format": "pt"})


def check_added_tokens(name, fixture, out, parts, inputs, expected):
    without_tokens(fixture, f"{out}/bare")
    export(f"{out}/bare", "--vision", f"{fixture}/clip", "--projector", f"{fixture}/xtuner/projector", *parts, "--to", "hf", f"{out}/grown")
    said.clear()
    model, info = load(f"{out}/grown")
    check(name, "keys", not info, str(info) if info else "")
    e = error(logits(model, inputs)[..., :510], expected[..., :510], inputs["attention_mask"].bool())
    check(name, "logits", e <= 1e-5, f"{e:.1e}")
    processor = transformers.AutoProcessor.from_pretrained(f"{out}/grown")
    for case in read_json(f"{fixture}/facts.json")["generation"]:
        content = [{"type": "image"} for _ in case["pictures"]] + [{"type": "text", "text": case["user"]}]
        check(name, "prompt", processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True) == case["prompt"])
    ids = processor.tokenizer.convert_tokens_to_ids(["<image>", "<pad>"])
    check(name, "ids", ids == [510, 511] and processor.tokenizer.pad_token_id == 511 and model.config.image_token_id == 510)
    check(name, "warnings", not said, "; ".join(said))


def check_adapter(name, base, adapter, out, inputs):
    from peft import PeftModel
    said.clear()
    reference = logits(PeftModel.from_pretrained(load(base)[0], adapter).eval(), inputs)
    said.clear()
    mask = inputs["attention_mask"].bool()
    export(base, "--adapter", adapter, "--merge", "--to", "hf", f"{out}-merged")
    model, info = load(f"{out}-merged")
    check(name, "keys merged", not info, str(info) if info else "")
    e = error(logits(model, inputs), reference, mask)
    check(name, "logits merged", e <= 1e-5, f"{e:.1e}")
    export(adapter, "--to", "peft", f"{out}-peft")
    model = PeftModel.from_pretrained(load(base)[0], f"{out}-peft").eval()
    e = error(logits(model, inputs), reference, mask)
    check(name, "logits by peft", e == 0, f"{e:.1e}")
    export(f"{out}-peft", "--to", "peft", f"{out}-peft-again")
    check(name, "written, read, written", same_folders(f"{out}-peft", f"{out}-peft-again"))
    check(name, "warnings", not said, "; ".join(said))


if __name__ == "__main__":
    root, *variants = sys.argv[1:]
    for variant in variants or sorted(d for d in os.listdir(root) if os.path.exists(f"{root}/{d}/facts.json")):
        with tempfile.TemporaryDirectory() as out: check_variant(f"{root}/{variant}", out)
    print(f"{failures} failures")
    sys.exit(1 if failures else 0)
