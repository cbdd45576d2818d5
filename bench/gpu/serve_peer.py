"""The peer of bench/serve.ts: transformers' generate, greedy, in batches, on the same shape with random weights, without a server.

Environment variables: DEVICE (cuda), CLIENTS (1,4,16,64), TOKENS, WORDS, LAYERS, HIDDEN. Prints a PEER line for each batch.
Needs torch and transformers >= 5.
"""
import os
import time

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

env = lambda name, default: int(os.environ.get(name, default))
device = os.environ.get("DEVICE", "cuda")
clients = [int(each) for each in os.environ.get("CLIENTS", "1,4,16,64").split(",")]
tokens, words, layers, hidden = env("TOKENS", 256), env("WORDS", 64), env("LAYERS", 32), env("HIDDEN", 4096)
dtype = torch.float32 if device == "cpu" else torch.bfloat16
torch.set_default_dtype(dtype)
text = LlamaConfig(vocab_size=128320, hidden_size=hidden, intermediate_size=hidden * 7 // 2, num_hidden_layers=layers,
                   num_attention_heads=hidden // 128, num_key_value_heads=hidden // 512, rope_theta=500000.0,
                   max_position_embeddings=8192)
vision = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=3 if hidden < 4096 else 24,
                          num_attention_heads=16, image_size=336, patch_size=14, projection_dim=768)
config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=128257, image_seq_length=576,
                     vision_feature_layer=-2)
config._attn_implementation = "sdpa"
with torch.device(device):
    model = LlavaForConditionalGeneration(config).eval()
model.generation_config.eos_token_id = None
model.generation_config.pad_token_id = 0


def run(rows, new):
    """Rows of different lengths, padded on the left as generate wants them."""
    lengths = [5 + 576 + int(words / 2 + ((i * 7) % 16) / 15 * (words / 2)) for i in range(rows)]
    width = max(lengths)
    ids = torch.zeros(rows, width, dtype=torch.long)
    mask = torch.zeros(rows, width, dtype=torch.long)
    for i, length in enumerate(lengths):
        row = [128257 if 5 <= t < 581 else ((t + 1) * 2654435761 & 0xFFFFFFFF) % 128000 for t in range(length)]
        ids[i, width - length:] = torch.tensor(row)
        mask[i, width - length:] = 1
    pixels = torch.zeros(rows, 3, 336, 336, dtype=dtype)
    start = time.perf_counter()
    with torch.inference_mode():
        model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), pixel_values=pixels.to(device),
                       do_sample=False, max_new_tokens=new)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


for rows in clients:
    run(rows, 8)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    seconds = run(rows, tokens)
    peak = 0 if device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
    print(f"PEER {rows} rows: {rows * tokens / seconds:.1f} tokens/s, peak {peak:.2f} GiB")
