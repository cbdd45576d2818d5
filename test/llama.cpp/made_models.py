"""Small decoders of random numbers with the tokenizers of test/fixtures/encode: a folder for each thing that a GGUF file says in its own way."""
import json, os, struct
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENIZERS = f"{ROOT}/test/fixtures/encode"
BASE = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 1600, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": False,
}
LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
MODELS = {
    "vicuna": ({}, "tokenizer-vicuna-legacy"),
    "vicuna, stretched, heads of another size": ({"head_dim": 32, "rope_scaling": {"type": "linear", "factor": 2.0}}, "tokenizer-vicuna"),
    "llama 3.1, tied": ({"rope_theta": 500000.0, "rope_scaling": LLAMA3_SCALING, "tie_word_embeddings": True}, "tokenizer"),
    "llama with biases": ({"attention_bias": True, "num_key_value_heads": 4}, "tokenizer"),
    "mistral": ({"model_type": "mistral", "sliding_window": None}, "tokenizer-vicuna-legacy"),
    "qwen2": ({"model_type": "qwen2", "rope_theta": 1e6}, "qwen2"),
    "qwen3": ({"model_type": "qwen3", "rope_theta": 1e6, "head_dim": 32}, "qwen2"),
}


def write(path, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))


def tokenizer(name):
    folder = f"{TOKENIZERS}/{'tokenizer' if name == 'qwen2' else name}"
    with open(f"{folder}/tokenizer.json") as file: files = {"tokenizer.json": json.load(file)}
    with open(f"{folder}/tokenizer_config.json") as file: files["tokenizer_config.json"] = json.load(file)
    if name == "qwen2":
        # Llama 3's vocabulary cut as Qwen2 cuts: digits one by one, no begin of a text.
        json_ = files["tokenizer.json"]
        split = json_["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        split["Regex"] = split["Regex"].replace("\\p{N}{1,3}", "\\p{N}")
        json_["model"]["ignore_merges"], json_["normalizer"], json_["post_processor"] = False, {"type": "NFC"}, None
    return files


def make(folder, name):
    change, words = MODELS[name]
    config = {**BASE, **change}
    random = np.random.default_rng(7)
    hidden, inner, heads, groups = (config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    size = config.get("head_dim", hidden // heads)
    matrix = lambda *shape: (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
    norm = lambda n=hidden: (1 + 0.2 * random.standard_normal(n)).astype(np.float32)
    tensors = {"model.embed_tokens.weight": matrix(config["vocab_size"], hidden), "model.norm.weight": norm()}
    if not config["tie_word_embeddings"]: tensors["lm_head.weight"] = matrix(config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}."
        rows = {"q_proj": heads * size, "k_proj": groups * size, "v_proj": groups * size}
        for module, n in rows.items():
            tensors[f"{at}self_attn.{module}.weight"] = matrix(n, hidden)
            if config["model_type"] == "qwen2" or config.get("attention_bias"): tensors[f"{at}self_attn.{module}.bias"] = matrix(n)
        if config["model_type"] == "qwen3": tensors |= {f"{at}self_attn.{part}_norm.weight": norm(size) for part in "qk"}
        tensors[f"{at}self_attn.o_proj.weight"] = matrix(hidden, heads * size)
        if config.get("attention_bias"): tensors[f"{at}self_attn.o_proj.bias"] = matrix(hidden)
        for module, shape in {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}.items():
            tensors[f"{at}mlp.{module}.weight"] = matrix(*shape)
        for module in ("input_layernorm", "post_attention_layernorm"): tensors[f"{at}{module}.weight"] = norm()
    os.makedirs(folder)
    write(f"{folder}/model.safetensors", tensors)
    for file, content in {"config.json": config, **tokenizer(words)}.items():
        with open(f"{folder}/{file}", "w") as out: json.dump(content, out, ensure_ascii=False)
