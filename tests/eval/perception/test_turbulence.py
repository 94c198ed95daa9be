"""The analysis of planes of a flow, on fields that are known and on the real ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codec.datasets.places import find_data
from codec.errors import MediaError, UsageError
from codec.eval.bench.readers import read_array
from codec.eval.perception.contract import Sample
from codec.eval.perception.tasks.turbulence import Turbulence, read, vorticity

N = 64
Y, X = np.mgrid[:N, :N].astype(np.float64)


def blobs(*places: tuple[float, float, float, float]) -> np.ndarray:
    """Gaussian vortices: sign, y, x, width."""
    field = np.zeros((N, N))
    for sign, y, x, width in places:
        field += sign * np.exp(-((Y - y) ** 2 + (X - x) ** 2) / (2 * width**2))
    return field.astype(np.float32)


THREE = blobs((1, 16, 16, 3), (-1, 16, 46, 3), (1, 46, 30, 4))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(Turbulence().samples(None))


def sums(samples: list[Sample], change: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    task, total = Turbulence(), {}
    for sample in samples:
        value = np.asarray(sample.value)
        for name, n in task.compare(read(change(value)), read(value), sample.label).items():
            total[name] = total.get(name, 0.0) + n
    return total


def scores(counts: dict[str, float]) -> dict[str, float]:
    return {score.name: float(score.value(counts)) for score in Turbulence.scores}


class TestReading:
    def test_vortices_are_where_they_were_put(self) -> None:
        rows = read(THREE).vortices
        assert [tuple(row) for row in np.rint(rows[:, :3])] == [(1, 16, 16), (1, 46, 30), (-1, 16, 46)]
        strong = np.abs(THREE - THREE.mean()) > 2 * THREE.std()
        assert rows[:, 3].sum() == strong.sum()

    def test_a_speck_is_no_vortex(self) -> None:
        field = THREE.copy()
        field[5, 60] = 1
        assert len(read(field).vortices) == 3

    def test_a_wave_is_in_its_bin(self) -> None:
        spectrum = read(np.sin(2 * np.pi * 7 * X / N)).spectrum
        assert len(spectrum) == N // 2
        assert spectrum.argmax() == 7 - 1
        assert spectrum[9:].max() < 1e-9 * spectrum.max()  # a Hann window leaks to the neighbours alone

    def test_the_waves_of_a_narrow_plane_are_along_its_shorter_side(self) -> None:
        assert read(np.sin(2 * np.pi * 5 * X[:32] / N)).spectrum.argmax() in (1, 2)  # 2.5 waves on 32 pixels

    @pytest.mark.parametrize("shape", [(64,), (15, 64), (3, 64, 64)])
    def test_other_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(MediaError, match="sides of at least 16"):
            read(np.zeros(shape))

    def test_values_that_are_not_finite(self) -> None:
        field = THREE.copy()
        field[3, 3] = np.nan
        with pytest.raises(MediaError, match="finite"):
            read(field)


class TestCompare:
    def test_what_is_moved_flipped_or_left_out(self) -> None:
        task, original = Turbulence(), read(THREE)

        def matched(field: np.ndarray) -> tuple[float, float]:
            counts = task.compare(read(field), original, None)
            return counts["vortices_matched"], counts["vortices_answered"]

        assert matched(np.roll(THREE, 2, 1)) == (3, 3)  # less than the radius, about 4
        assert matched(np.roll(THREE, 8, 1)) == (0, 3)
        assert matched(-THREE) == (0, 3)
        assert matched(blobs((1, 16, 16, 3), (-1, 16, 46, 3))) == (2, 2)

    def test_a_vortex_is_matched_once(self) -> None:
        split = blobs((1, 16, 14, 1.2), (1, 16, 19, 1.2), (-1, 16, 46, 3), (1, 46, 30, 4))
        counts = Turbulence().compare(read(split), read(THREE), None)
        assert (counts["vortices_answered"], counts["vortices_wanted"]) == (4, 3)
        assert counts["vortices_matched"] <= 3

    def test_damped_extremes_are_missed(self) -> None:
        counts = Turbulence().compare(read(THREE * 0.8), read(THREE), None)
        assert counts["extremes"] == 3  # the three middles
        assert counts["extremes_kept"] == 0
        assert counts["bins_kept"] == 0
        assert counts["vortices_matched"] == 3

    def test_exaggerated_extremes_cost(self) -> None:
        counts = Turbulence().compare(read(THREE * 1.5), read(THREE), None)
        assert counts["extremes_kept"] == 3
        assert scores(dict(counts))["extremes"] < 0.5

    def test_flat_planes(self) -> None:
        flat = read(np.full((32, 32), 3.0))
        counts = Turbulence().compare(flat, flat, None)
        assert set(counts.values()) == {0.0}
        assert all(np.isnan(value) for value in scores(dict(counts)).values())


class TestFlows:
    def test_planes(self, samples: list[Sample]) -> None:
        assert [np.asarray(sample.value).shape for sample in samples] == [(256, 256)] * 4 + [(96, 96)] * 9
        assert {np.asarray(sample.value).dtype for sample in samples} == {np.dtype(np.float32)}
        assert len({sample.digest for sample in samples}) == 13

    def test_the_original_loses_nothing(self, samples: list[Sample]) -> None:
        counts = sums(samples, lambda field: field)
        assert scores(counts) == {"vortices": 1.0, "extremes": 1.0, "spectrum": 1.0}
        assert counts["vortices_wanted"] == 202
        assert counts["extremes"] == 4 * 66 + 9 * 10

    def test_noise_scores_nothing(self, samples: list[Sample]) -> None:
        rng = np.random.default_rng(0)
        values = scores(sums(samples, lambda field: rng.normal(field.mean(), field.std(), field.shape)))
        assert values["vortices"] < 0.02
        assert values["extremes"] < 0.02
        assert values["spectrum"] < 0.05

    def test_more_noise_loses_more(self, samples: list[Sample]) -> None:
        noise = np.random.default_rng(1).standard_normal((256, 256))

        def noisy(field: np.ndarray, much: float) -> np.ndarray:
            return field + much * field.std() * noise[: field.shape[0], : field.shape[1]]

        curve = [scores(sums(samples, functools.partial(noisy, much=much))) for much in (0.001, 0.03, 0.3)]
        for name in ("vortices", "extremes", "spectrum"):
            values = [point[name] for point in curve]
            assert values == sorted(values, reverse=True), name
            assert values[0] > values[-1], name

    def test_counts_add_up(self, samples: list[Sample]) -> None:
        def blunt(field: np.ndarray) -> np.ndarray:
            return np.rint(field / field.std()) * field.std()

        first, second, pair = (sums(part, blunt) for part in (samples[:1], samples[4:5], [samples[0], samples[4]]))
        assert pair == {name: first[name] + second[name] for name in first}
        low, high = sorted((scores(first)["vortices"], scores(second)["vortices"]))
        assert low <= scores(pair)["vortices"] <= high


class TestVorticity:
    def test_of_a_flow_that_is_known(self) -> None:
        n = 48
        z, x, y = np.indices((n, n, n), np.float64) * 2 * np.pi / n
        velocity = np.stack([np.sin(2 * y) + np.cos(z), np.sin(x) * np.cos(z), np.cos(3 * y)])
        for depth in (2, 9):
            a, b, c = z[depth], x[depth], y[depth]
            curl = np.stack(
                [
                    -3 * np.sin(3 * c) + np.sin(b) * np.sin(a),
                    -np.sin(a),
                    np.cos(b) * np.cos(a) - 2 * np.cos(2 * c),
                ]
            )
            assert np.abs(vorticity(velocity, depth) - curl).max() < 1e-4  # of differences along z

    def test_the_axes_of_the_file(self) -> None:
        """Vorticity has no divergence: only the true order of axes and components gives that."""
        velocity = read_array(find_data("scientific") / "hit_dns_96.h5", "test/velocity")
        planes = np.stack([vorticity(velocity, depth) for depth in range(2, 14)], axis=1)  # (3, 12, 96, 96)
        step = 2 * np.pi / 96

        def slope(part: np.ndarray, axis: int) -> np.ndarray:
            return (np.roll(part, -1, axis) - np.roll(part, 1, axis))[1:-1] / (2 * step)

        divergence = slope(planes[0], 1) + slope(planes[1], 2) + slope(planes[2], 0)
        assert divergence.std() < 0.15 * slope(planes[0], 1).std()


class TestData:
    def test_a_folder(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", THREE.astype(np.float64))
        np.save(tmp_path / "b.npy", np.stack([THREE, -THREE])[None])
        np.save(tmp_path / "c.npy", np.arange(50))
        samples = list(Turbulence().samples(tmp_path))
        assert [sample.name for sample in samples] == ["a.npy", "b.npy[0,0]", "b.npy[0,1]"]
        assert np.array_equal(np.asarray(samples[2].value), -THREE)
        assert samples[0].digest == samples[1].digest

    def test_a_folder_without_planes(self, tmp_path: Path) -> None:
        np.save(tmp_path / "c.npy", np.arange(50))
        with pytest.raises(UsageError, match="at least 16"):
            list(Turbulence().samples(tmp_path))

    def test_no_other_model(self) -> None:
        with pytest.raises(UsageError, match="expected analysis"):
            Turbulence().load("fluid-net")
