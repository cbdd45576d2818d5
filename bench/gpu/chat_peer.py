"""The peer of bench/chat.ts: transformers' generate, greedy, batch 1, on the same shape with random weights.

Environment variables: DEVICE (cuda), TOKENS, QUESTION, RUNS, LAYERS, HIDDEN. Prints one PEER line.
Needs torch and transformers >= 5.
"""
import os
import time

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.generation.streamers import BaseStreamer

env = lambda name, default: int(os.environ.get(name, default))
device = os.environ.get("DEVICE", "cuda")
tokens, question, runs = env("TOKENS", 256), env("QUESTION", 64), env("RUNS", 3)
layers, hidden = env("LAYERS", 32), env("HIDDEN", 4096)
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
ids = [128257 if 5 <= i < 581 else ((i + 1) * 2654435761 & 0xFFFFFFFF) % 128000 for i in range(5 + 576 + question)]
ids = torch.tensor([ids], device=device)
pixels = torch.sin(torch.arange(3 * 336 * 336, dtype=torch.float32)).view(1, 3, 336, 336).to(device, dtype)


class Clock(BaseStreamer):
    """Times the first new token: the prompt comes first, then each token."""

    def __init__(self):
        self.calls, self.first = 0, None

    def put(self, value):
        self.calls += 1
        if self.calls == 2:
            self.first = time.perf_counter()

    def end(self):
        pass


def run():
    clock = Clock()
    start = time.perf_counter()
    with torch.inference_mode():
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, do_sample=False,
                       max_new_tokens=tokens, streamer=clock)
    if device != "cpu":
        torch.cuda.synchronize()
    return clock.first - start, time.perf_counter() - clock.first


run()
measured = [run() for _ in range(runs)]
median = lambda values: sorted(values)[len(values) // 2]
first, rest = median([a for a, _ in measured]), median([b for _, b in measured])
peak = 0 if device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
print(f"PEER {(tokens - 1) / rest:.1f} tokens/s after the first, first token {first:.4f} s, peak {peak:.2f} GiB")
