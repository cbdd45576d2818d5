"""The arithmetic of llama.cpp on the GGUF files of a LLaVA, in numpy and fp32: decoder, and tower with projector as the library runs them,
or as transformers does (`fixed`), which gives the class token the first position. Reads the files through the `gguf` package."""
import math
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


class File:
    def __init__(self, path):
        reader = GGUFReader(path)
        self.kinds = {t.name: t.tensor_type.name for t in reader.tensors}
        self.raw = {t.name: np.asarray(t.data) for t in reader.tensors}
        # `shape` counts from the innermost dimension.
        self.tensors = {
            t.name: dequantize(np.asarray(t.data), t.tensor_type).astype(np.float32).reshape([int(n) for n in t.shape][::-1]) for t in reader.tensors
        }
        self.fields = {key: field.contents() for key, field in reader.fields.items()}

    def __getitem__(self, name): return self.tensors[name]

    def get(self, name): return self.tensors.get(name)

    def linear(self, x, name):
        bias = self.get(f"{name}.bias")
        y = x @ self[f"{name}.weight"].T
        return y if bias is None else y + bias


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def silu(x): return x / (1 + np.exp(-x))


def gelu(x): return (x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2).astype(np.float32)


def gelu_tanh(x): return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attend(q, k, v, mask):
    """(T, H, D), (T, G, D), (T, G, D) -> (T, H * D)"""
    groups = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, groups, axis=1) for x in (k, v))
    scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1]) + mask
    return np.einsum("hts,shd->thd", softmax(scores), v).reshape(len(q), -1)


class Text(File):
    def logits(self, x):
        """(T, C) embeddings -> (T, V)"""
        name = self.fields["general.architecture"]
        get = lambda key, default=None: self.fields.get(f"{name}.{key}", default)
        heads, groups, eps = get("attention.head_count"), get("attention.head_count_kv"), get("attention.layer_norm_rms_epsilon")
        size = get("attention.key_length", get("embedding_length") // heads)
        positions = np.arange(len(x), dtype=np.float32) / get("rope.scaling.factor", 1)
        angles = np.outer(positions, get("rope.freq_base") ** (-np.arange(0, size, 2) / size))
        if (factors := self.get("rope_freqs.weight")) is not None: angles = angles / factors
        cos, sin = (f(angles)[:, None].astype(np.float32) for f in (np.cos, np.sin))

        def norm(x, key): return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * self[f"{key}.weight"]

        def rotate(x):
            # llama turns neighbours, the others halves.
            a, b = (x[..., 0::2], x[..., 1::2]) if name == "llama" else (x[..., : size // 2], x[..., size // 2 :])
            turned = (a * cos - b * sin, a * sin + b * cos)
            return np.stack(turned, -1).reshape(x.shape) if name == "llama" else np.concatenate(turned, -1)

        mask = np.triu(np.full((len(x), len(x)), -np.inf, np.float32), 1)
        for i in range(get("block_count")):
            at = f"blk.{i}."
            h = norm(x, at + "attn_norm")
            q, k, v = (self.linear(h, f"{at}attn_{p}").reshape(len(x), -1, size) for p in "qkv")
            if f"{at}attn_q_norm.weight" in self.tensors: q, k = norm(q, at + "attn_q_norm"), norm(k, at + "attn_k_norm")
            x = x + self.linear(attend(rotate(q), rotate(k), v, mask), at + "attn_output")
            h = norm(x, at + "ffn_norm")
            x = x + self.linear(silu(self.linear(h, at + "ffn_gate")) * self.linear(h, at + "ffn_up"), at + "ffn_down")
        head = self.get("output.weight")
        return norm(x, "output_norm") @ (self["token_embd.weight"] if head is None else head).T


class Mmproj(File):
    def features(self, pixels, fixed):
        """(3, S, S) -> (patches, C of the decoder); `fixed` as transformers computes it, else as llama.cpp does."""
        get = lambda key: self.fields[f"clip.vision.{key}"]
        heads, eps, size = get("attention.head_count"), get("attention.layer_norm_epsilon"), get("patch_size")
        token = self.get("v.class_embd")
        # SigLIP, which has none, is trained with the form by tanh that llama.cpp has for both.
        act = (gelu if fixed and token is not None else gelu_tanh) if self.fields["clip.use_gelu"] else lambda x: x / (1 + np.exp(-1.702 * x))

        def norm(x, key):
            x = x - x.mean(-1, keepdims=True)
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * self[f"{key}.weight"] + self[f"{key}.bias"]

        rows = pixels.shape[1] // size
        patches = pixels[:, : rows * size, : rows * size].reshape(3, rows, size, rows, size).transpose(1, 3, 0, 2, 4).reshape(rows * rows, -1)
        patches = patches @ self["v.patch_embd.weight"].reshape(-1, patches.shape[1]).T
        if "v.patch_embd.bias" in self.tensors: patches = patches + self["v.patch_embd.bias"]
        parts = [] if token is None else [token.reshape(1, -1)]
        x = np.concatenate([*parts, patches] if fixed else [patches, *parts]) + self["v.position_embd.weight"]
        if token is not None: x = norm(x, "v.pre_ln")
        for i in range(max(get("feature_layer"))):
            at = f"v.blk.{i}."
            h = norm(x, at + "ln1")
            q, k, v = (self.linear(h, f"{at}attn_{p}").reshape(len(x), heads, -1) for p in "qkv")
            x = x + self.linear(attend(q, k, v, 0), at + "attn_out")
            x = x + self.linear(act(self.linear(norm(x, at + "ln2"), at + "ffn_up")), at + "ffn_down")
        x = self.linear(x[len(parts) :], "mm.0")
        return self.linear((gelu if fixed else gelu_tanh)(x), "mm.2") if "mm.2.weight" in self.tensors else x
