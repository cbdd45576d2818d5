"""Writes what shows that Patina and transformers do the same work: a shallow LLaVA of the 8B's widths with random weights, a LoRA of it, a
batch, and the loss and the norm of the gradient that transformers + peft give; `bench/same-work.ts` holds Patina against it.

    python3 bench/gpu/same_work.py FOLDER     then     node dist/bench/same-work.js FOLDER

Environment: LAYERS (2), HIDDEN (4096), DEVICE (cuda), DTYPE (bfloat16). Needs torch, transformers >= 5, peft.
"""
import json, os, sys
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration
from peer_shapes import LINEARS, PICTURE, shape

E = os.environ.get
folder, device, dtype = sys.argv[1], E("DEVICE", "cuda"), E("DTYPE", "bfloat16")
torch.manual_seed(0)
torch.set_default_dtype(getattr(torch, dtype))
config = shape(layers=int(E("LAYERS", "2")), hidden=int(E("HIDDEN", "4096")))
with torch.device(device): model = LlavaForConditionalGeneration(config)
model.save_pretrained(f"{folder}/hf")

# Two records of different length, padded.
lengths = [1024, 700]
ids = torch.randint(0, 128000, (2, max(lengths)), device=device)
ids[:, 5:5 + PICTURE] = config.image_token_index
labels, mask = ids.clone(), torch.ones_like(ids)
labels[:, :600] = -100
for i, length in enumerate(lengths): ids[i, length:] = 0; labels[i, length:] = -100; mask[i, length:] = 0
pixels = torch.randn(2, 3, 336, 336, device=device, dtype=torch.float32)
inputs = {"input_ids": ids, "labels": labels, "attention_mask": mask, "pixel_values": pixels}
save_file({f"0.{name}": value.cpu().contiguous() for name, value in inputs.items()}, f"{folder}/inputs.safetensors")


def loss_and_norm(model):
    model.zero_grad(set_to_none=True)
    loss = model(**{**inputs, "pixel_values": pixels.to(model.dtype)}, use_cache=False).loss
    loss.backward()
    # As clipping takes it; on a CPU libtorch's norm of a tensor of millions of elements is off by up to 2e-3, alike in both programs.
    norm = torch.nn.utils.get_total_norm([p.grad.float() for p in model.parameters() if p.grad is not None])
    return {"loss": loss.item(), "norm": norm.item()}


answers = {"dtype": dtype}
model.model.vision_tower.requires_grad_(False)
answers["full"] = loss_and_norm(model)
# Drawn, not zero: else half of its gradients are.
lora = LoraConfig(r=16, lora_alpha=32, target_modules=rf".*language_model.*\.{LINEARS}", modules_to_save=["multi_modal_projector"], init_lora_weights=False)
model = get_peft_model(model, lora, autocast_adapter_dtype=False)
model.save_pretrained(f"{folder}/adapter")
answers["lora"] = loss_and_norm(model)
with open(f"{folder}/same-work.json", "w") as file: json.dump(answers, file)
for mode in ("full", "lora"): print(f"PEER {mode} {dtype} loss={answers[mode]['loss']:.6f} norm={answers[mode]['norm']:.6f}")
