"""The shapes of LLaVA of bench/shapes.ts as configurations of transformers."""
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

PICTURE = 576
# What LoRA adapts; with a tower, the decoder's alone.
LINEARS = r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def shape(vicuna=False, text=False, layers=32, hidden=4096):
    """Less than 4,096 also gives a tower of three layers."""
    heads = hidden // 128
    if vicuna: sizes = dict(vocab_size=32064, intermediate_size=hidden * 43 // 16, num_key_value_heads=heads, rope_theta=10000.0, max_position_embeddings=4096)
    else: sizes = dict(vocab_size=128320, intermediate_size=hidden * 7 // 2, num_key_value_heads=heads // 4, rope_theta=500000.0, max_position_embeddings=8192)
    decoder = LlamaConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, rms_norm_eps=1e-5, **sizes)
    tower = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24 if hidden >= 4096 else 3, num_attention_heads=16, image_size=336, patch_size=14, projection_dim=768)
    config = decoder if text else LlavaConfig(vision_config=tower, text_config=decoder, image_token_index=32000 if vicuna else 128257, image_seq_length=PICTURE, vision_feature_layer=-2)
    config._attn_implementation = "sdpa"
    return config
