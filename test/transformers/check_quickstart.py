"""Loads the folder that `patina quickstart` leaves in transformers: no warning, no missing or unexpected key, the answers that Patina gives.

    python test/transformers/check_quickstart.py runs/quickstart [QUESTIONS]

Needs torch, transformers 5.17, pillow, safetensors. Not a part of the tests.
"""
import json, os, subprocess, sys, warnings
import torch, transformers
from PIL import Image
from check_export import ROOT, load, said

data = sys.argv[1]
count = int(sys.argv[2]) if len(sys.argv) > 2 else 20
folder = f"{data}/model"


def patina(image, question):
    command = ["node", f"{ROOT}/bin/patina.js", "chat", folder, "--image", image, "--temperature", "0", question]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


processor = transformers.AutoProcessor.from_pretrained(folder)
model, info = load(folder)
wrong = [f"{kind}: {names}" for kind, names in info.items()]
with open(f"{data}/heldout.json") as file: records = json.load(file)
asked = [(record["image"], turn["value"]) for record in records for turn in record["conversations"] if turn["from"] == "human"]
asked += [(record["image"], "Describe the picture.") for record in records]
for image, text in asked[:: len(asked) // count][:count]:
    question = text.replace("<image>\n", "")
    content = [{"type": "image"}, {"type": "text", "text": question}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=Image.open(f"{data}/{image}"), text=prompt, return_tensors="pt")
    with torch.no_grad(): ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    theirs = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    ours = patina(f"{data}/{image}", question)
    print(f"{image}  {question}  {ours}")
    if ours != theirs: wrong.append(f"{image} {question}: Patina {ours!r}, transformers {theirs!r}")
wrong += said
print(*wrong, sep="\n")
print(f"{len(wrong)} differences, keys and warnings")
sys.exit(bool(wrong))
