"""The peer of images.ts: LLaVA's padding and transformers' CLIP processor.  images_peer.py SIZE pad|crop FILE...

Prints what it measures, then for each line on stdin the images per second of processor time of one pass over the files.
"""
import sys
import time

import torch
import transformers
from PIL import Image
from transformers import CLIPImageProcessor

SIZE, MODE, FILES = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
torch.set_num_threads(1)
processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def square(image):
    if image.width == image.height:
        return image
    side = max(image.size)
    out = Image.new("RGB", (side, side), tuple(int(x * 255) for x in processor.image_mean))
    out.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return out


print(f"transformers {transformers.__version__} {type(processor).__name__}", flush=True)
for _ in sys.stdin:
    start = time.process_time()
    for file in FILES:
        image = Image.open(file).convert("RGB")
        processor(square(image) if MODE == "pad" else image, return_tensors="pt")
    print(len(FILES) / (time.process_time() - start), flush=True)
