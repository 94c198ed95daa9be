"""Quantisers: nearest words, K-means, moving averages, dead words, gradients, finite scalars, the use of a codebook."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from codec.codecs.vqgan.quantiser import (
    FiniteQuantiser,
    VectorQuantiser,
    kmeans,
    nearest,
    passed_on,
    perplexity,
    usage,
)


def blobs(count: int, each: int, width: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors around `count` far centres, in random order, and the centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = 20 * torch.randn(count, width, generator=generator)
    vectors = centres.repeat(each, 1) + 0.1 * torch.randn(count * each, width, generator=generator)
    return vectors[torch.randperm(len(vectors), generator=generator)], centres


class TestNearest:
    def test_is_the_nearest(self) -> None:
        torch.manual_seed(0)
        vectors, codebook = torch.randn(300, 5), torch.randn(17, 5)
        assert torch.equal(nearest(vectors, codebook), torch.cdist(vectors, codebook).argmin(1))

    @pytest.mark.parametrize("most", [1, 17, 40, 10**6])
    def test_in_parts(self, most: int) -> None:
        torch.manual_seed(1)
        vectors, codebook = torch.randn(50, 3), torch.randn(17, 3)
        assert torch.equal(nearest(vectors, codebook, most), nearest(vectors, codebook))

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = []
        addmm = torch.addmm
        monkeypatch.setattr(torch, "addmm", lambda *a, **k: sizes.append(len(a[1])) or addmm(*a, **k))
        nearest(torch.randn(1000, 2), torch.randn(100, 2), 5000)
        assert max(sizes) == 50

    def test_of_nothing(self) -> None:
        assert nearest(torch.zeros(0, 3), torch.zeros(4, 3)).shape == (0,)


class TestKmeans:
    def test_finds_clusters(self) -> None:
        vectors, centres = blobs(8, 50)
        clusters = kmeans(vectors, 8, seed=3)
        assert float(torch.cdist(centres, clusters.centroids).min(1).values.max()) < 0.1
        assert float(clusters.error) < 4 * 0.1**2 * 1.2
        assert torch.equal(clusters.index, nearest(vectors, clusters.centroids))

    def test_depends_on_the_seed_only(self) -> None:
        vectors = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
        first = kmeans(vectors, 16, seed=1).centroids
        torch.rand(10)
        assert torch.equal(first, kmeans(vectors, 16, seed=1).centroids)
        assert not torch.equal(first, kmeans(vectors, 16, seed=2).centroids)

    def test_weights_are_repetitions(self) -> None:
        vectors = torch.tensor([[0.0], [1.0], [10.0], [11.0], [500.0]])
        weights = torch.tensor([3.0, 1.0, 1.0, 4.0, 0.0])
        clusters = kmeans(vectors, 2, weights)
        assert sorted(clusters.centroids[:, 0].tolist()) == pytest.approx([0.25, 10.8])
        repeated = vectors.repeat_interleave(weights.long(), 0)
        assert float(clusters.error) == pytest.approx(float(kmeans(repeated, 2).error))

    def test_more_tries_are_no_worse(self) -> None:
        vectors, _ = blobs(12, 10, 2)
        errors = [float(kmeans(vectors, 12, seed=5, start="random", tries=n).error) for n in (1, 6)]
        assert errors[1] <= errors[0]

    def test_no_cluster_is_left_empty(self) -> None:
        """Random starts put several centroids into one blob: those that lose all vectors move on."""
        vectors, _ = blobs(20, 30, 2, seed=4)
        for start in ("random", "k-means++"):
            index = kmeans(vectors, 100, start=start).index  # type: ignore[arg-type]
            assert len(index.unique()) == 100

    def test_fewer_different_vectors_than_words(self) -> None:
        clusters = kmeans(torch.zeros(10, 3), 4)
        assert torch.equal(clusters.centroids, torch.zeros(4, 3))

    def test_refuses(self) -> None:
        for words, weights in ((0, None), (6, None), (3, torch.tensor([1.0, 1, 0, 0, 0])), (2, -torch.ones(5))):
            with pytest.raises(ValueError, match="weights|clusters"):
                kmeans(torch.randn(5, 2), words, weights)
        with pytest.raises(ValueError, match="weights"):
            kmeans(torch.randn(5, 2), 2, torch.ones(4))


def inputs(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (16 n, C) as (n, C, 4, 4)."""
    return vectors.view(-1, 4, 4, vectors.shape[1]).movedim(-1, 1)


class TestVectorQuantiser:
    def test_starts_as_clusters_of_the_first_batch(self) -> None:
        vectors, _ = blobs(8, 32)
        quantiser = VectorQuantiser(8, 4)
        assert not quantiser.is_started
        out = quantiser(inputs(vectors))
        assert quantiser.is_started
        assert float((out.codes - inputs(vectors)).square().mean()) < 0.02
        assert float(quantiser.counts.sum()) == pytest.approx(len(vectors))

    def test_evaluation_changes_nothing(self) -> None:
        quantiser = VectorQuantiser(8, 4).eval()
        before = {name: value.clone() for name, value in quantiser.state_dict().items()}
        quantiser(torch.randn(2, 4, 4, 4))
        assert all(torch.equal(value, before[name]) for name, value in quantiser.state_dict().items())

    def test_moves_to_the_average_of_what_it_stands_for(self) -> None:
        quantiser = VectorQuantiser(2, 1, decay=0.5, restart=0.0)
        quantiser.fill(torch.tensor([[0.0], [10.0]]), torch.tensor([8.0, 8.0]))
        quantiser(torch.full((1, 1, 4, 4), 1.0))
        # counts: (8 + 16) / 2, sums: (8 * 0 + 16 * 1) / 2
        assert quantiser.counts.tolist() == [12.0, 4.0]
        assert quantiser.codebook[:, 0].tolist() == pytest.approx([8 / 12, 10.0], rel=1e-4)

    def test_dead_words_begin_anew_and_live_words_stay(self) -> None:
        torch.manual_seed(0)
        quantiser = VectorQuantiser(4, 1, decay=0.5, restart=0.1)
        quantiser.fill(torch.tensor([[0.0], [100.0], [200.0], [300.0]]), torch.full((4,), 4.0))
        z = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
        for _ in range(4):
            quantiser(z)
            assert (quantiser.codebook[:, 0] > 50).sum() in (0, 3)
        assert float(quantiser.codebook.abs().max()) <= 1.0
        quantiser.usage()
        for _ in range(3):
            quantiser(z)
        assert int(quantiser.usage().distinct) == 4

    def test_dead_words_stay_if_none_may_restart(self) -> None:
        quantiser = VectorQuantiser(2, 1, decay=0.1, restart=0.0)
        quantiser.fill(torch.tensor([[0.0], [100.0]]))
        for _ in range(20):
            quantiser(torch.zeros(1, 1, 4, 4))
        assert float(quantiser.codebook[1]) == pytest.approx(100.0, rel=0.02)

    @pytest.mark.parametrize("kind", ["average", "learned"])
    def test_losses_pull_towards_each_other(self, kind: str) -> None:
        quantiser = VectorQuantiser(4, 3, codebook=kind, commitment=0.25, restart=0.0)  # type: ignore[arg-type]
        quantiser.fill(torch.randn(4, 3))
        z = torch.randn(2, 3, 4, 4, requires_grad=True)
        error = float((z - quantiser.lookup(quantiser.index_of(z))).detach().square().mean())
        out = quantiser(z)
        out.loss.backward()
        assert z.grad is not None
        assert bool((z.grad != 0).any())
        assert (quantiser.codebook.grad is not None) == (kind == "learned")
        assert float(out.loss.detach()) == pytest.approx({"learned": 1.25, "average": 0.25}[kind] * error, rel=1e-5)

    def test_words_of_indices(self) -> None:
        torch.manual_seed(0)
        quantiser = VectorQuantiser(16, 3)
        quantiser.fill(torch.randn(16, 3))
        index = torch.randint(16, (2, 5, 7))
        assert torch.equal(quantiser.index_of(quantiser.lookup(index)), index)

    def test_few_vectors_for_many_words(self) -> None:
        quantiser = VectorQuantiser(64, 4)
        quantiser.start(torch.randn(10, 4))
        assert torch.isfinite(quantiser.codebook).all()
        assert len(quantiser.codebook.unique(dim=0)) == 64

    def test_what_is_no_number_stays_outside(self) -> None:
        quantiser = VectorQuantiser(4, 2)
        bad = torch.full((1, 2, 4, 4), float("nan"))
        quantiser(bad)
        assert not quantiser.is_started
        quantiser(torch.randn(1, 2, 4, 4))
        before = {name: value.clone() for name, value in quantiser.state_dict().items()}
        quantiser(bad)
        assert all(torch.equal(value, before[name]) for name, value in quantiser.state_dict().items())

    def test_goes_on_from_its_state(self) -> None:
        first, second = VectorQuantiser(8, 4), VectorQuantiser(8, 4)
        first(torch.randn(4, 4, 4, 4))
        second.load_state_dict(first.state_dict())
        batch = torch.randn(4, 4, 4, 4)
        for quantiser in (first, second):
            torch.manual_seed(1)
            quantiser(batch)
        assert torch.equal(first.codebook, second.codebook)

    def test_computes_in_float32_whatever_is_around_it(self) -> None:
        quantiser = VectorQuantiser(8, 4)
        with torch.autocast("cpu", torch.bfloat16):
            out = quantiser(torch.randn(4, 4, 4, 4).bfloat16())
        assert out.codes.dtype == out.loss.dtype == torch.float32


class TestGradients:
    def test_straight_through(self) -> None:
        z, codes, seen = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4), torch.randn(6, 4)
        out = passed_on(z, codes, "straight-through")
        assert torch.allclose(out, codes, atol=1e-6)
        (out * seen).sum().backward()
        assert torch.allclose(z.grad, seen)  # type: ignore[arg-type]

    def test_rotation(self) -> None:
        """The gradient turns with the vectors: its angle to the word is what it then has to the input."""
        torch.manual_seed(0)
        z, codes, seen = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4), torch.randn(6, 4)
        out = passed_on(z, codes, "rotation")
        assert torch.allclose(out, codes, atol=1e-6)
        (out * seen).sum().backward()
        ratio = codes.norm(dim=1) / z.detach().norm(dim=1)
        gradient = z.grad / ratio[:, None]  # type: ignore[operator]
        assert torch.allclose(gradient.norm(dim=1), seen.norm(dim=1), rtol=1e-4)
        angle = torch.cosine_similarity(gradient, z.detach())
        assert torch.allclose(angle, torch.cosine_similarity(seen, codes), atol=1e-5)


@pytest.mark.parametrize("kind", ["average", "learned"])
def test_words_of_unknown_use_are_not_dead_at_once(kind: Any) -> None:
    """A codebook that was filled from elsewhere keeps the words that the first batch doesn't use."""
    torch.manual_seed(0)
    quantiser, book = VectorQuantiser(32, 4, codebook=kind, restart=0.5), torch.randn(32, 4)
    quantiser.fill(book)
    quantiser.train()
    quantiser(book[0].view(1, 4, 1, 1).expand(1, 4, 32, 32).contiguous())
    torch.testing.assert_close(quantiser.codebook.detach(), book, rtol=1e-4, atol=1e-4)


class TestFiniteScalars:
    def test_every_index_is_a_code_and_back(self) -> None:
        quantiser = FiniteQuantiser([8, 5, 5, 5])
        assert quantiser.words == 1000
        index = torch.arange(1000).view(1, 25, 40)
        codes = quantiser.lookup(index)
        assert codes.min() == -1
        assert codes.max() <= 1
        assert len(codes.flatten(2)[0].T.unique(dim=0)) == 1000
        half = torch.tensor(quantiser.levels) // 2
        assert torch.equal(((codes.movedim(1, -1) * half + half).long() * quantiser.radix).sum(-1), index)

    @pytest.mark.parametrize("levels", [[8, 5, 5, 5], [2, 3, 4], [7]])
    def test_all_levels_are_reached_and_no_more(self, levels: list[int]) -> None:
        quantiser = FiniteQuantiser(levels)
        z = torch.linspace(-9, 9, 997).view(1, 1, 1, -1).expand(1, len(levels), 1, -1).contiguous()
        out = quantiser(z)
        assert torch.allclose(out.codes, quantiser.lookup(out.index), atol=1e-6)
        for channel, count in enumerate(levels):
            assert len(quantiser.lookup(out.index)[0, channel].unique()) == count

    def test_zero_is_zero(self) -> None:
        """The shift of even levels: nothing in is nothing out."""
        assert torch.equal(FiniteQuantiser([4, 5, 8])(torch.zeros(1, 3, 1, 1)).codes, torch.zeros(1, 3, 1, 1))

    def test_passes_gradients(self) -> None:
        z = torch.randn(1, 2, 3, 3, requires_grad=True)
        out = FiniteQuantiser([5, 4])(z)
        assert out.loss == 0
        out.codes.sum().backward()
        assert bool((z.grad > 0).all())  # type: ignore[operator]

    def test_refuses(self) -> None:
        for levels in ([], [1, 5]):
            with pytest.raises(ValueError, match="levels"):
                FiniteQuantiser(levels)


def test_use_of_a_codebook() -> None:
    assert float(perplexity(torch.full((8,), 5))) == pytest.approx(8)
    assert float(perplexity(torch.tensor([9, 0, 0]))) == pytest.approx(1)
    assert float(perplexity(torch.zeros(4))) == 0
    used = usage(torch.tensor([3, 1, 0]))
    assert int(used.distinct) == 2
    assert float(used.perplexity) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_use_is_that_of_many_batches() -> None:
    quantiser = VectorQuantiser(4, 1, restart=0.0)
    quantiser.fill(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    for value in (0.0, 1.0, 2.0):
        quantiser(torch.full((1, 1, 4, 4), value))
    used = quantiser.usage()
    assert int(used.distinct) == 3
    assert float(used.perplexity) == pytest.approx(3)
    assert int(quantiser.usage().distinct) == 0
