"""The transformer block: two ways to the same numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward as Library

from flickbook.diffusion import attention
from flickbook.diffusion.attention import FeedForward, attend


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [1, 7, 64, 77])
def test_few_tokens_and_many_give_the_same(tokens: int, causal: bool) -> None:
    torch.manual_seed(tokens)
    q, k, v = torch.randn(3, 2, 3, tokens, 16)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert torch.allclose(attend(q, k, v, causal), expected, rtol=1e-5, atol=1e-6)
    q.requires_grad_()
    attend(q, k, v, causal).square().sum().backward()  # type: ignore[no-untyped-call]
    found, q.grad = q.grad, None
    F.scaled_dot_product_attention(q, k, v, is_causal=causal).square().sum().backward()  # type: ignore[no-untyped-call]
    assert found is not None and q.grad is not None and torch.allclose(found, q.grad, rtol=1e-4, atol=1e-5)


def test_no_token_sees_those_after_it() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 9, 8)
    before = attend(q, k, v, causal=True)
    k[..., 5:, :], v[..., 5:, :] = 100.0, 100.0
    after = attend(q, k, v, causal=True)
    assert torch.equal(before[..., :5, :], after[..., :5, :]) and not torch.equal(before, after)


@pytest.mark.parametrize("tokens", [1, 4])
def test_the_fused_kernels_of_a_gpu_get_films_in_parts(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five dimensions, (films, pixels, heads, frames, d), in calls of at most three batches."""
    monkeypatch.setattr(attention, "_MOST", 3)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 5, 2, tokens, 8) for _ in range(3))
    torch.testing.assert_close(attention._flat(q, k, v, False, None), attend(q, k, v))


def test_the_gated_feed_forward_is_the_librarys() -> None:
    torch.manual_seed(0)
    ours, theirs = FeedForward(24), Library(24, activation_fn="geglu")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 24)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
