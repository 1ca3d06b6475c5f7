"""A Llama-type checkpoint becomes a lightbulb Transformer that says the same; what does not fit is refused in one line."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lightbulb.core.errors import UnavailableError
from lightbulb.lm.pretrained import converted_config, copy_llama, transformer_from_pretrained
from lightbulb.lm.transformer import Transformer

PLAIN = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e4},
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def llama(**changes) -> LlamaForCausalLM:
    "A random model with weights that do something."
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**PLAIN, "tie_word_embeddings": True, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter) if parameter.ndim > 1 else 0.5 + torch.rand_like(parameter))
    return model


def converted(source: LlamaForCausalLM, **settings) -> Transformer:
    model = Transformer(converted_config(source.config, "here", **settings)).eval()
    copy_llama(source, model)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"num_experts": 1}, {"num_experts": 4}, {"num_encoder_layers": 2}, {"num_encoder_layers": 0}], ids=str
)
def test_the_converted_decoder_says_what_the_source_says(tied, settings):
    source = llama(tie_word_embeddings=tied)
    model, tokens = converted(source, **settings), torch.randint(97, (2, 40))
    with torch.no_grad():
        expected = source(tokens).logits
        torch.testing.assert_close(model.logits(model.decode(tokens)), expected, rtol=1e-3, atol=2e-4)
        cache = model.new_cache(2)
        steps = torch.cat([model.decode(part, cache=cache) for part in tokens.split(7, 1)], 1)
        torch.testing.assert_close(model.logits(steps), expected, rtol=1e-3, atol=2e-4)
        for head in range(model.config.num_token_heads):
            assert torch.equal(model.logits(steps, head), model.logits(steps))
        if model.encoder is not None:  # the gate is closed
            heard = model.decode(tokens, model.encode(torch.randint(97, (2, 11))))
            torch.testing.assert_close(model.logits(heard), expected, rtol=1e-3, atol=2e-4)


def test_a_closed_gate_costs_nothing():
    "Where no gradient can open it, the memory is not even looked at: evaluations and writing do the source's own work alone."
    model, tokens, context = converted(llama(), num_experts=1), torch.randint(97, (2, 12)), torch.randint(97, (2, 9))
    asked = []
    for part in (*(layer.attention for layer in model.encoder.layers), *(layer.cross for layer in model.decoder.layers)):
        part.register_forward_hook(lambda *_: asked.append(1))
    with torch.inference_mode():
        assert torch.equal(model(tokens, encoder_tokens=context).hidden, model.decode(tokens)) and not asked
        assert model.new_cache(2, model.encode(context)).cross is None
    asked.clear()
    model(tokens, encoder_tokens=context)  # a gradient could open it
    assert len(asked) == len(model.encoder.layers) + len(model.decoder.layers)
    model.decoder.layers[-1].cross.gate.data.fill_(0.5)
    with torch.inference_mode():
        assert not torch.allclose(model(tokens, encoder_tokens=context).hidden, model.decode(tokens))


def test_training_opens_the_gate_and_reaches_the_encoder():
    model = converted(llama(num_hidden_layers=1), num_encoder_layers=1).train()
    tokens, context = torch.randint(97, (2, 12)), torch.randint(97, (2, 9))
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(3):
        optimizer.zero_grad()
        output = model(tokens, encoder_tokens=context)
        loss = (
            torch.nn.functional.cross_entropy(model.logits(output.hidden)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
            + 0.01 * output.router.balance_loss
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and model.encoder is not None and model.decoder.layers[0].cross.gate.abs() > 0
    assert model.encoder.layers[0].attention.output.weight.grad.any()
    experts = model.decoder.layers[0].experts
    assert experts.swiglu.up.grad.any() and (experts.gelu.up.grad is None or not experts.gelu.up.grad.any())


def test_enabled_gelu_experts_join_the_routing():
    model = converted(llama(), num_experts=4)
    tokens = torch.randint(97, (2, 12))
    assert model(tokens).router.load[:, ::2].sum() == 0
    for layer in model.decoder.layers:
        layer.experts.router.offsets.zero_()
    assert (model(tokens).router.load[:, ::2].sum(1) > 0).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"attention_bias": True}, "biases"),
        ({"head_dim": 16}, "heads do not span"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "scaled"),
        ({"intermediate_size": 4001}, "multiple of 8"),
    ],
)
def test_what_does_not_fit_is_refused(changes, reason):
    with pytest.raises(UnavailableError, match=reason) as refused:
        converted_config(LlamaConfig(**{**PLAIN, **changes}), "that-model")
    assert "'that-model'" in str(refused.value) and "smollm2" in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_and_a_model_of_another_type(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    source, folder = llama(), tmp_path / "llama"
    source.save_pretrained(folder)
    model, name = transformer_from_pretrained(str(folder), num_token_heads=2)
    tokens = torch.randint(97, (1, 20))
    with torch.no_grad():
        torch.testing.assert_close(model.eval().logits(model.decode(tokens)), source(tokens).logits, rtol=1e-3, atol=2e-4)
    assert name == str(folder) and model.config.num_token_heads == 2
    GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UnavailableError, match="its type is gpt2, not llama"):
        transformer_from_pretrained(str(tmp_path / "gpt2"))
    with pytest.raises(UnavailableError, match="there is no folder"):
        transformer_from_pretrained(str(tmp_path / "nothing"))
