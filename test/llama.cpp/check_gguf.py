"""GGUF files that `patina export --to gguf` writes, read by others: the `gguf` package and numpy, and where it is there llama.cpp itself.

    python test/llama.cpp/check_gguf.py [MODEL] [--runtime NODE_MODULES]

MODEL is a folder that Patina reads; without one, stored models of test/fixtures/llava are taken, with what transformers computed of them, and small
decoders of random numbers.
NODE_MODULES holds @fugood/llama.node 1.7 (npm install --ignore-scripts --omit=optional @fugood/llama.node @fugood/node-llama-linux-x64).
Needs gguf, numpy, pillow. Not a part of the tests. For each type of file it compares:

- codes of q8_0 and q4_0 with those that the `gguf` package makes of the source's numbers, byte for byte;
- logits that numpy computes of the f16 files with what transformers computed of the source;
- llama.cpp's ids with Patina's, and its probabilities with numpy's, for text, and for pictures with its class token in the last position.
"""
import argparse, glob, json, os, struct, subprocess, sys, tempfile
import numpy as np
from PIL import Image
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from gguf_numpy import Mmproj, Text, softmax
from made_models import MODELS, make

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
parser = argparse.ArgumentParser()
parser.add_argument("model", nargs="?")
parser.add_argument("--runtime")
args = parser.parse_args()
failures = 0
TEXTS = ["What is in the picture?", "It's 12345 o'clock; we'LL see.\n\n  Two  blanks\tand a tab \n", "Grüße, 你好 世界! 🙂 ¼ ²³ naïve", " leading", "a\r\nb\r\n\r\n c", "[x](y) 3.14e-10 --", "'S 'Ve don'T"]


def check(what, passed, detail=""):
    global failures
    failures += not passed
    print(f"{'ok  ' if passed else 'FAIL'} {what} {detail}", flush=True)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode: raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def safetensors(path):
    kinds = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "BF16": np.uint16}
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, body = json.loads(file.read(length)), file.read()
    header.pop("__metadata__", None)
    found = {}
    for name, facts in header.items():
        values = np.frombuffer(body[slice(*facts["data_offsets"])], kinds[facts["dtype"]]).reshape(facts["shape"])
        found[name] = (values.astype(np.uint32) << 16).view(np.float32) if facts["dtype"] == "BF16" else values
    return found


def export(model, out, kind):
    report = json.loads(run("node", f"{ROOT}/bin/patina.js", "export", model, "--to", "gguf", out, "--type", kind, "--check", "--json"))
    files = {name.split("-")[0]: f"{out}/{name}" for name in report["files"]}
    return Text(files["model"]), (Mmproj(files["mmproj"]) if "mmproj" in files else None), files


def codes(source, kind, text):
    """Blocks against the package's own, on the numbers of the f16 file's f32 twin: the source's matrices."""
    wanted = {"q8_0": GGMLQuantizationType.Q8_0, "q4_0": GGMLQuantizationType.Q4_0}[kind]
    differing = total = 0
    for name, stored in text.kinds.items():
        if stored not in ("Q8_0", "Q4_0"): continue
        total += 1
        differing += quantize(source[name], GGMLQuantizationType[stored]).tobytes() != text.raw[name].tobytes()
    check(f"{kind}: {total} tensors in blocks, as the gguf package quantises", differing == 0, f"{differing} differ")


def relative(a, b): return float(np.sqrt(np.square(a - b).sum() / np.square(b).sum()))


def reference(folder, text, mmproj):
    """Logits of the stored batch, against transformers'."""
    inputs, outputs = safetensors(f"{folder}/inputs.safetensors"), safetensors(f"{folder}/outputs.safetensors")
    ids, mask, pixels = (inputs[f"0.{name}"] for name in ("input_ids", "attention_mask", "pixel_values"))
    features = np.concatenate([mmproj.features(picture, True) for picture in pixels])
    with open(f"{folder}/hf/config.json") as file: config = json.load(file)
    image = config["image_token_index"]
    if features.shape == outputs["image_features"].shape:
        error = relative(features, outputs["image_features"])
        check("features of pictures as transformers'", error < 3e-3, f"relative {error:.1e}")
    if "logits" not in outputs: return
    # One placeholder a feature.
    worst, at = 0, 0
    for row, keep, logits in zip(ids, mask.astype(bool), outputs["logits"]):
        x = text["token_embd.weight"][np.clip(row[keep], 0, None)].copy()
        places = np.flatnonzero(row[keep] == image)
        x[places] = features[at : at + len(places)]
        at += len(places)
        worst = max(worst, relative(text.logits(x), logits[keep]))
    check("logits as transformers'", worst < 1e-2, f"relative {worst:.1e}")


OURS = """
import { generate, loadModel, loadTokenizer } from '%s/dist/src/index.js';
const [folder, texts] = JSON.parse(process.argv[1]);
const tokenizer = await loadTokenizer(folder);
const { before } = tokenizer.specialFrame;
const ids = texts.map((text) => tokenizer.encode(text));
const bytes = Array.from({ length: tokenizer.vocabularySize }, (_, id) => Buffer.from(tokenizer.bytesOf(id)).toString('hex'));
const { model } = await loadModel(folder, { dtype: 'float32' });
const logits = [];
for (const each of ids) {
  const options = { maxNewTokens: 1, temperature: 0, onLogits: (next) => logits.push(next.toArray()[0]) };
  for await (const _ of generate(model, [{ inputIds: [...before, ...each], pixelValues: null, images: [] }], options));
}
console.log(JSON.stringify({ before, ids, bytes, logits }));
""" % ROOT


def ours(folder, texts):
    """Ids of texts without what stands before them, the bytes of all tokens, logits of what comes after each text."""
    return json.loads(run("node", "--input-type=module", "-e", OURS, json.dumps([folder, texts])))


def spelled(id, tokens):
    """As the runtime writes a token: the byte of one that is no text."""
    if id >= len(tokens): return f"[PAD{id}]"
    token = bytes.fromhex(tokens[id])
    text = token.decode(errors="replace")
    return f"byte: \\x{token[0]:02x}" if text == "\ufffd" and len(token) == 1 else text


def draw(path, size):
    """A picture of the size that the tower takes, which no program resizes."""
    y, x = np.mgrid[0:size, 0:size]
    pixels = np.stack([x * 255 // size, y * 255 // size, (x * 7 + y * 13) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels.astype(np.float32)


def texts_for(folder):
    """Those that llama.cpp reads as the tokenizer does: with Metaspace it puts a second blank before one at the begin of a text."""
    with open(f"{folder}/tokenizer.json") as file: metaspace = (json.load(file)["pre_tokenizer"] or {}).get("type") == "Metaspace"
    return [text for text in TEXTS if not (metaspace and text.startswith(" "))]


def words(folder, text):
    """Logits after texts, against Patina's."""
    mine = ours(folder, TEXTS)
    worst = max(relative(text.logits(text["token_embd.weight"][mine["before"] + ids])[-1], np.array(logits)) for ids, logits in zip(mine["ids"], mine["logits"]))
    check("logits after texts as Patina's", worst < 1e-2, f"relative {worst:.1e}")


def runtime(folder, text, mmproj, files, temporary):
    texts = texts_for(folder)
    prompts = [{"text": t} for t in texts[:4]] + [{"text": texts[0], "greedy": 12}]
    if mmproj:
        size, mean, std = (mmproj.fields[f"clip.vision.{key}"] for key in ("image_size", "image_mean", "image_std"))
        picture = f"{temporary}/picture.png"
        image = draw(picture, size)
        prompts.append({"text": "<__media__>hi", "media": [picture]})
    with open(f"{temporary}/request.json", "w") as request:
        json.dump({"model": files["model"], "mmproj": files.get("mmproj"), "texts": texts, "prompts": prompts}, request)
    run("node", f"{HERE}/runtime.mjs", args.runtime, request.name, f"{temporary}/answer.json")
    with open(f"{temporary}/answer.json") as file: said = json.load(file)
    mine = ours(folder, [*texts, "hi"])
    *wanted, after = mine["ids"]
    before = mine["before"]
    check("llama.cpp's ids are Patina's", said["ids"] == wanted, "" if said["ids"] == wanted else f"\n{[(t, a, b) for t, a, b in zip(texts, said['ids'], wanted) if a != b]}")
    embeddings = text["token_embd.weight"]

    def compare(what, answer, logits):
        wanted = softmax(logits.astype(np.float64))
        probs = sorted((entry["prob"] for entry in answer[0]["probs"]), reverse=True)
        ordered = np.sort(wanted)[::-1][: len(probs)]
        error = float(np.abs(np.array(probs) - ordered).max() / ordered[0])
        check(what, error < 2e-2, f"largest difference of probabilities {error:.1e} of the largest, {ordered[0]:.2e}")

    for ids, answer, t in zip(wanted, said["answers"], texts[:4]):
        compare(f"probabilities after {t[:20]!r}", answer, text.logits(embeddings[before + ids])[-1])
    ids = before + wanted[0]
    greedy = []
    for _ in said["answers"][4]:
        ids.append(int(text.logits(embeddings[ids])[-1].argmax()))
        greedy.append(spelled(ids[-1], mine["bytes"]))
    theirs = [entry["probs"][0]["tok_str"] for entry in said["answers"][4]]
    check("greedy tokens", theirs == greedy, f"{theirs} {greedy if theirs != greedy else ''}")
    if not mmproj: return
    pixels = ((image / 255 - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)
    for fixed in (False, True):
        x = np.concatenate([embeddings[before], mmproj.features(pixels, fixed), embeddings[after]])
        if not fixed: compare("a picture, a class token last", said["answers"][5], text.logits(x)[-1])
        elif "v.class_embd" in mmproj.tensors: print(f"     with the class token first, features differ by {relative(mmproj.features(pixels, False)[:-1], mmproj.features(pixels, True)[1:]):.2f}")


def whole(model, stored):
    with tempfile.TemporaryDirectory() as temporary:
        text, mmproj, files = export(model, f"{temporary}/f16", "f16")
        if stored: reference(stored, text, mmproj)
        words(model, text)
        if args.runtime: runtime(model, text, mmproj, files, temporary)
        for kind in ("bf16", "q8_0", "q4_0"):
            other, _, _ = export(model, f"{temporary}/{kind}", kind)
            if kind != "bf16": codes(other_source(model, text), kind, other)


def other_source(model, text):
    """The source's numbers under the file's names and in its order: those of f16 where they are exact, else read from safetensors."""
    tensors = {}
    for path in sorted(glob.glob(f"{model}/*.safetensors")): tensors.update(safetensors(path))
    heads = text.fields[f"{text.fields['general.architecture']}.attention.head_count"]
    groups = text.fields[f"{text.fields['general.architecture']}.attention.head_count_kv"]
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    found = {}
    for name, values in tensors.items():
        short = name.replace("language_model.", "").replace("model.", "")
        if short == "embed_tokens.weight": found["token_embd.weight"] = values
        elif short == "lm_head.weight": found["output.weight"] = values
        elif short.startswith("layers.") and short.endswith("_proj.weight"):
            _, layer, _, module, _ = short.split(".")
            if module in ("q_proj", "k_proj") and text.fields["general.architecture"] == "llama":
                count = heads if module == "q_proj" else groups
                values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
            found[f"blk.{layer}.{names[module]}.weight"] = values
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}


if args.model: whole(args.model, None)
else:
    for name in ("llama3", "siglip-qwen2", "siglip-qwen3"):
        print(name)
        folder = f"{ROOT}/test/fixtures/llava/{name}"
        whole(f"{folder}/hf", folder)
    with tempfile.TemporaryDirectory() as temporary:
        for number, name in enumerate(MODELS):
            print(name)
            make(f"{temporary}/{number}", name)
            whole(f"{temporary}/{number}", None)
print(f"{failures} failures")
sys.exit(failures > 0)
