"""A decoder of lightbulb's and a Llama of Hugging Face's with the same weights."""

from __future__ import annotations

import torch
from lightbulb.lm.transformer import Transformer, TransformerConfig


def llama_like(
    vocab_size: int,
    *,
    width: int = 256,
    num_layers: int = 4,
    num_heads: int = 8,
    num_key_value_heads: int | None = None,
    hidden: int = 1024,
    max_length: int = 512,
    num_token_heads: int = 1,
    seed: int = 0,
) -> Transformer:
    "A decoder-only, dense Transformer without QK-norm, with random weights that make its distributions neither flat nor certain."
    torch.manual_seed(seed)
    model = Transformer(
        TransformerConfig(
            vocab_size,
            width=width,
            num_heads=num_heads,
            num_key_value_heads=num_key_value_heads,
            num_encoder_layers=0,
            num_decoder_layers=num_layers,
            hidden=hidden,
            num_experts=1,
            top_k=1,
            num_token_heads=num_token_heads,
            qk_norm=False,
            input_norm=False,
            max_length=max_length,
        )
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=3 * width**-0.5 if "embedding" in name else parameter.shape[-1] ** -0.5)
    return model.eval()


def llama_twin(model: Transformer):
    "The same weights as a LlamaForCausalLM; `ValueError` for a model that is no Llama."
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    if config.num_encoder_layers or config.num_experts > 1 or config.qk_norm or config.input_norm or not config.tie_embeddings:
        raise ValueError("only a decoder without encoder, experts, QK-norm and norm of the input, with tied embeddings, is a Llama")
    groups = config.num_key_value_heads or config.num_heads
    weights = {
        "model.embed_tokens.weight": model.unembedding,
        "lm_head.weight": model.unembedding,
        "model.norm.weight": model.decoder.norm.weight,
    }
    for number, layer in enumerate(model.decoder.layers):
        queries, keys, values = layer.attention.query_key_value.weight.split(
            [heads * config.head_width for heads in (config.num_heads, groups, groups)]
        )
        gate, up = layer.experts.up.T.chunk(2)
        own = {
            "self_attn.q_proj": queries,
            "self_attn.k_proj": keys,
            "self_attn.v_proj": values,
            "self_attn.o_proj": layer.attention.output.weight,
            "input_layernorm": layer.attention_norm.weight,
            "post_attention_layernorm": layer.experts_norm.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": layer.experts.down.T,
        }
        weights |= {f"model.layers.{number}.{name}.weight": weight for name, weight in own.items()}
    twin = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=len(model.decoder.layers[0].experts.down),
            num_hidden_layers=config.num_decoder_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=groups,
            max_position_embeddings=config.max_length,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )
    twin.load_state_dict(weights)
    return twin.eval()
