"""The peers of bench/ranks.ts on several GPUs of one machine: transformers + peft + Liger kernels under FSDP2 or DDP.

LLaVA-Llama-3-8B shape with random bf16 weights, an image of 576 tokens in each sequence, nothing downloaded. One process a GPU:

    torchrun --nproc-per-node 2 bench/gpu/ranks_peer.py par=fsdp2 train=full states=fp32 reduce=fp32 variants=ck,keep
    python3 bench/gpu/ranks_peer.py par=none train=full states=bf16 rows=4 variants=ck

par       none (one GPU) | ddp | fsdp2                    train   full (all but the tower) | lora (r 16, and the projector)
states    fp32 (masters, moments) | bf16                  reduce  fp32 | bf16: the type in which fsdp2 reduces gradients
variants  ck,keep: decoder layers checkpointed or kept    rows, micro, tokens, layers, steps (8, 4, 2048, 32, 7)
reshard   0: weights stay gathered until the backward     offload 1: fsdp2 keeps parameters and states in host memory

Prints a PEER line for each variant: median of the steps after the first two, peaks over all ranks. A step's loss is read when the next one is
queued, so that the device always has work. Needs torch, transformers >= 5, peft, liger_kernel.
"""

import functools
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

OPTIONS = dict(par="fsdp2", train="full", states="fp32", reduce="fp32", variants="ck", reshard="1", offload="0",
               rows="8", micro="4", tokens="2048", layers="32", steps="7")
for argument in sys.argv[1:]:
    key, value = argument.split("=")
    assert key in OPTIONS, key
    OPTIONS[key] = value
RANK, WORLD, LOCAL = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
ROWS, MICRO, TOKENS, LAYERS, STEPS = (int(OPTIONS[key]) for key in ("rows", "micro", "tokens", "layers", "steps"))
LORA = OPTIONS["train"] == "lora"
MASTERS = OPTIONS["states"] == "fp32" and not LORA
IMAGE, PATCHES = 128257, 576
DEVICE = torch.device("cuda", LOCAL)


class Head(nn.Module):
    """The loss by Liger, without the logits; a module of its own, so that FSDP2 sees its weight used."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, hidden, labels):
        from liger_kernel.transformers.model.loss_utils import LigerForCausalLMLoss
        loss = LigerForCausalLMLoss(hidden_states=hidden, lm_head_weight=self.weight, labels=labels, hidden_size=hidden.shape[-1])
        return loss if torch.is_tensor(loss) else loss[0]


class Network(nn.Module):
    def __init__(self, llava):
        super().__init__()
        self.model, self.head = llava.model, Head(llava.lm_head.weight)

    def forward(self, ids, pixels, labels):
        hidden = self.model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), use_cache=False)[0]
        return self.head(hidden, labels)


def build():
    from liger_kernel.transformers import apply_liger_kernel_to_llama
    apply_liger_kernel_to_llama()
    text = LlamaConfig(vocab_size=128320, hidden_size=4096, intermediate_size=14336, num_hidden_layers=LAYERS, num_attention_heads=32,
                       num_key_value_heads=8, rope_theta=500000.0, max_position_embeddings=8192)
    vision = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
                              patch_size=14, projection_dim=768)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=PATCHES, vision_feature_layer=-2)
    config._attn_implementation = "sdpa"
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with DEVICE:
        llava = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    llava.train()
    llava.model.vision_tower.requires_grad_(False)
    if LORA:
        from peft import LoraConfig, get_peft_model
        layers = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        get_peft_model(llava, LoraConfig(r=16, lora_alpha=32, target_modules=layers, modules_to_save=["multi_modal_projector"]),
                       autocast_adapter_dtype=False)
    return Network(llava).to(torch.bfloat16)


def shard(net):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
    reduce = torch.float32 if OPTIONS["reduce"] == "fp32" and not LORA else torch.bfloat16
    options = dict(mesh=init_device_mesh("cuda", (WORLD,)), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=reduce),
                   offload_policy=CPUOffloadPolicy() if OPTIONS["offload"] == "1" else OffloadPolicy())
    # The encoder, not the tower: transformers finds the tower's class by name, which wrapping changes.
    tower, language = net.model.vision_tower.encoder, net.model.language_model
    parts = [tower, language.embed_tokens, *language.layers, net.head]
    for part in parts:
        if MASTERS and part is not tower:
            part.float()
        fully_shard(part, reshard_after_forward=OPTIONS["reshard"] == "1" and part is not net.head, **options)
    if MASTERS:
        net.model.multi_modal_projector.float(), language.norm.float()
    fully_shard(net, **options)
    for layer, following in zip(parts[2:-1], parts[3:]):
        layer.set_modules_to_forward_prefetch([following])


def batches():
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(0, 128000, (ROWS, TOKENS), generator=generator)
    ids[:, 5 : 5 + PATCHES] = IMAGE
    labels = ids.clone()
    labels[:, :600] = -100
    pixels = torch.randn(ROWS, 3, 336, 336, generator=generator).to(torch.bfloat16)
    own = slice(RANK * ROWS // WORLD, (RANK + 1) * ROWS // WORLD)
    whole = [tensor[own].to(DEVICE) for tensor in (ids, pixels, labels)]
    return [[tensor[at : at + MICRO] for tensor in whole] for at in range(0, ROWS // WORLD, MICRO)]


def largest(value):
    tensor = torch.tensor([value], device=DEVICE, dtype=torch.float64)
    if WORLD > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.item()


def main():
    torch.cuda.set_device(DEVICE)
    if WORLD > 1:
        dist.init_process_group("nccl", device_id=DEVICE)
    net = build()
    parallel = OPTIONS["par"]
    if parallel == "ddp":
        net = nn.parallel.DistributedDataParallel(net, device_ids=[LOCAL], gradient_as_bucket_view=True)
    elif parallel == "fsdp2":
        shard(net)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0, fused=True)
    layers = (net.module if parallel == "ddp" else net).model.language_model.layers
    data = batches()
    for variant in OPTIONS["variants"].split(","):
        for layer in layers:
            layer.gradient_checkpointing = variant == "ck"
            layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds, losses, late, before = [], [], None, time.perf_counter()
        # The last step that is timed has one behind it too.
        for step in range(STEPS + 1):
            total = 0.0
            for number, batch in enumerate(data):
                if parallel == "ddp":
                    net.require_backward_grad_sync = number == len(data) - 1
                loss = net(*batch)
                (loss / len(data)).backward()
                total = total + loss.detach() / len(data)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            copied = torch.cuda.Event()
            host = torch.empty((), pin_memory=True).copy_(total, non_blocking=True)
            copied.record()
            if late:
                late[1].synchronize()
                losses.append(late[0].item())
                now = time.perf_counter()
                if step > 2:
                    seconds.append(now - before)
                before = now
            late = host, copied
        torch.cuda.synchronize()
        median = statistics.median(seconds)
        peak, reserved = (largest(f() / 2**30) for f in (torch.cuda.max_memory_allocated, torch.cuda.max_memory_reserved))
        if RANK == 0:
            print(f"PEER {' '.join(sys.argv[1:])} | {variant} | tok/s {ROWS * TOKENS / median:.0f} | step {1000 * median:.0f} ms "
                  f"(spread {100 * (max(seconds) - min(seconds)) / median:.1f} %) | peak {peak:.2f} reserved {reserved:.2f} GiB | "
                  f"losses {' '.join(f'{loss:.4f}' for loss in losses[:4])}", flush=True)
    os._exit(0)


main()
