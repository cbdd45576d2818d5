"""The peer of encode.ts: transformers' LlavaProcessor on the same records.  encode_peer.py MODEL SIZE RECORDS.jsonl...

Prints one line of JSON: versions, and the image processors that it has. Then answers each line of stdin for the file of records
that it numbers: "record NUMBER PROCESSOR" and "text NUMBER" with records per second of processor time for one pass; "check NUMBER
PROCESSOR" with the SHA-256 of all ids and of all pixel values, and the largest distance to Pillow's pixels in steps of 1/255. Ends
with status 3 where Python has no transformers.
"""

import hashlib
import importlib.util
import json
import sys
import time

try:
    import PIL
    import tokenizers
    import torch
    import transformers
    from transformers import LlavaProcessor
    from transformers.utils import logging
except ImportError:
    sys.exit(3)

from PIL import Image

MODEL, SIZE = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
logging.set_verbosity_error()


def read(file):
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def load(backend):
    square = {"height": SIZE, "width": SIZE}
    return LlavaProcessor.from_pretrained(MODEL, backend=backend, size={"shortest_edge": SIZE}, crop_size=square)


def messages(record):
    for turn in record["conversations"]:
        role = "user" if turn["from"] == "human" else "assistant"
        image, found, text = turn["value"].rpartition("<image>\n")
        parts = [{"type": "image"}] if found else []
        yield {"role": role, "content": [*parts, {"type": "text", "text": text}]}


def encode(processor, record):
    prompt = processor.apply_chat_template(list(messages(record)))
    image = Image.open(record["image"]).convert("RGB")
    return processor(images=image, text=prompt, add_special_tokens=False, return_tensors="pt")


def encode_text(processor, record):
    """The text alone, with as many image tokens as the processor writes."""
    prompt = processor.apply_chat_template(list(messages(record)))
    tokens = (SIZE // processor.patch_size) ** 2
    expanded = prompt.replace(processor.image_token, processor.image_token * tokens)
    return processor.tokenizer(expanded, add_special_tokens=False)


def check(records, backend):
    ids, pixels, distance = hashlib.sha256(), hashlib.sha256(), 0.0
    std = torch.tensor(processors["pil"].image_processor.image_std)[:, None, None]
    for record in records:
        encoded = encode(processors[backend], record)
        values = encoded["pixel_values"]
        ids.update(encoded["input_ids"].to(torch.int32).numpy().tobytes())
        pixels.update(values.contiguous().numpy().tobytes())
        if backend != "pil":
            exact = encode(processors["pil"], record)["pixel_values"]
            distance = max(distance, float(((values - exact) * std).abs().max()) * 255)
    return {"ids": ids.hexdigest(), "pixels": pixels.hexdigest(), "distance": distance}


def rate(records, work, processor):
    start = time.process_time()
    for record in records:
        work(processor, record)
    return len(records) / (time.process_time() - start)


def answer(command, number, backend="pil"):
    records = RECORDS[int(number)]
    if command == "check":
        return check(records, backend)
    return rate(records, encode if command == "record" else encode_text, processors[backend])


RECORDS = [read(file) for file in sys.argv[3:]]
BACKENDS = ["pil"] if importlib.util.find_spec("torchvision") is None else ["pil", "torchvision"]
processors = {backend: load(backend) for backend in BACKENDS}
facts = {
    "python": sys.version.split()[0],
    "transformers": transformers.__version__,
    "tokenizers": tokenizers.__version__,
    "pillow": PIL.__version__,
    "torch": torch.__version__,
    "processors": {name: type(one.image_processor).__name__ for name, one in processors.items()},
}
if "torchvision" in BACKENDS:
    import torchvision

    facts["torchvision"] = torchvision.__version__
print(json.dumps(facts), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(*line.split())), flush=True)
