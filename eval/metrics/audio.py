"""Fidelity and quality of sounds: SNR, SI-SDR, spectral distances, ViSQOL, PESQ and STOI.

SI-SDR: Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, arXiv 1811.02508.
stft-distance: Yamamoto, Song, Kim, "Parallel WaveGAN", ICASSP 2020, arXiv 1910.11480, section 2.2, by auraloss.
PESQ: ITU-T P.862 with the mappings of P.862.1 and P.862.2, by the package pesq. STOI: Taal, Hendriks, Heusdens, Jensen,
"An algorithm for intelligibility prediction of time-frequency weighted noisy speech", IEEE TASLP 2011, by pystoi.
ViSQOL: Chinen, Lim, Skoglund, Gureev, O'Gorman, Hines, "ViSQOL v3: An Open Source Production Ready Objective Speech and
Audio Metric", QoMEX 2020, arXiv 2004.09584, by visqol-python.

All take sounds of one shape and rate. A decoded sound with samples that aren't finite gets the worst value there is:
minus infinity where higher is better, infinity where lower is. Channels are treated as said at each.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...media.audio.resample import resample
from ...media.audio.values import MAX_RATE
from ..bench.contract import Audio, Metric
from .support import check_audio, library, needs, versions_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AUDIO_METRICS", "mel_distance", "pesq", "psnr", "si_sdr", "snr", "stft_distance", "stoi", "visqol"]

# Of Parallel WaveGAN, table 1; in samples, made for 24 kHz.
_FFT_SIZES, _HOPS, _WINDOWS = (1024, 2048, 512), (120, 240, 50), (600, 1200, 240)
_MEL_BANDS, _MEL_SECONDS, _MEL_FLOOR, _MEL_MIN_RATE = 80, 0.046, 1e-5, 4000
_WIDE, _NARROW = 16_000, 8_000
_PESQ_PIECE = 15  # seconds
_STOI_RATE, _STOI_MIN_RATE, _STOI_SECONDS = 10_000, 8_000, 0.4
_VISQOL_RATE, _VISQOL_MIN_RATE, _VISQOL_WORST = 48_000, 8_000, 1.0
_VISQOL_SHORTEST = 3_840 + 44 * 960  # samples of 45 windows of 80 ms, every 20 ms: a patch and what it is searched in
_MAX_PHASES = 2000  # of a resampling filter, whose size grows with it

Channel = NDArray[np.float64]


def _broken(decoded: Audio) -> bool:
    return not np.isfinite(decoded.samples).all()


def _decibels(signal: float, error: float) -> float:
    """The ratio of two powers in dB; no error gives infinity, no signal NaN unless there is no error either."""
    if error == 0:
        return math.inf
    if signal == 0:
        return math.nan
    return 10 * (math.log10(signal) - math.log10(error))


def snr(original: Audio, decoded: Audio) -> float:
    """The energy of all channels over that of the difference, in dB. NaN for a silent original, unless equal."""
    check_audio(original, decoded)
    if _broken(decoded):
        return -math.inf
    x = original.samples.astype(np.float64)
    return _decibels(float(np.square(x).sum()), float(np.square(x - decoded.samples).sum()))


def psnr(original: Audio, decoded: Audio) -> float:
    """The PSNR in dB: the square of full scale from peak to peak, 2.0, over the mean squared error of all channels.

    So WaLLoC's authors measure sound, as pictures are: with a peak of 1.0 it would be 6.02 dB less.
    """
    check_audio(original, decoded)
    if _broken(decoded):
        return -math.inf
    error = original.samples.astype(np.float64) - decoded.samples
    return _decibels(4.0, float(np.square(error).mean()))


def si_sdr(original: Audio, decoded: Audio) -> float:
    """The scale-invariant SDR in dB: mean over the channels that aren't constant in the original, each less its mean.

    NaN if all are constant. A channel that the decoded sound lost (constant there) gives minus infinity.
    """
    check_audio(original, decoded)
    if _broken(decoded):
        return -math.inf
    values = []
    for x, x_hat in _channels(original, decoded):
        if not _varies(x):
            continue
        if not _varies(x_hat):
            values.append(-math.inf)
            continue
        x, x_hat = x - x.mean(), x_hat - x_hat.mean()
        target = (x @ x_hat) / (x @ x) * x
        error = target - x_hat
        value = _decibels(float(target @ target), float(error @ error))
        values.append(-math.inf if math.isnan(value) else value)  # at right angles: nothing of the original is there
    return _mean(values)


def _channels(original: Audio, decoded: Audio) -> Iterator[tuple[Channel, Channel]]:
    for x, x_hat in zip(original.samples, decoded.samples, strict=True):
        yield x.astype(np.float64), x_hat.astype(np.float64)


def _varies(x: Channel) -> bool:
    return bool((x != x[0]).any())


def _mean(values: list[float]) -> float:
    """The mean; NaN for none, or for infinities of both signs."""
    return sum(values) / len(values) if values else math.nan


# ---- spectral distances


def _tensors(original: Audio, decoded: Audio, dtype: type[np.floating[Any]]) -> tuple[Tensor, Tensor]:
    """Both as tensors, (1, C, N) each; copies."""
    import torch

    x, x_hat = (torch.from_numpy(np.array(a.samples, dtype, order="C"))[None] for a in (original, decoded))
    return x, x_hat


@functools.lru_cache(maxsize=1)
def _stft_loss() -> Any:
    loss = library("auraloss.freq", "auraloss").MultiResolutionSTFTLoss
    return loss(list(_FFT_SIZES), list(_HOPS), list(_WINDOWS), window="hann_window", w_sc=1.0, w_log_mag=1.0)


def stft_distance(original: Audio, decoded: Audio) -> float:
    """Spectral convergence plus mean difference of log magnitudes, mean over three STFTs, all channels together.

    Hann windows of 600, 1200 and 240 samples, every 120, 240 and 50, FFTs of 1024, 2048 and 512, whatever the rate.
    Magnitudes have a floor of 1e-4. NaN for fewer than 1025 samples, half of an FFT, or a silent original unless equal.
    """
    import torch

    check_audio(original, decoded)
    if _broken(decoded):
        return math.inf
    if original.samples.shape[1] <= max(_FFT_SIZES) // 2:
        return math.nan
    if not original.samples.any() and decoded.samples.any():
        return math.nan
    x, x_hat = _tensors(original, decoded, np.float32)
    with torch.inference_mode():
        return float(_stft_loss()(x_hat, x))  # convergence is relative to the second


@functools.lru_cache(maxsize=8)
def _mel_bank(rate: int) -> tuple[int, Tensor]:
    """The window's length in samples, and the filters, (window // 2 + 1, bands) float64."""
    functional = library("torchaudio.functional", "torchaudio")
    window = 1 << round(math.log2(_MEL_SECONDS * rate))
    bank = functional.melscale_fbanks(window // 2 + 1, 0.0, rate / 2, _MEL_BANDS, rate, norm=None, mel_scale="htk")
    return window, bank.double()


def mel_distance(original: Audio, decoded: Audio) -> float:
    """The absolute difference of levels in dB, mean over time, mel bands and channels.

    A level is 20 log10 of a sum of STFT magnitudes under a triangle. 80 triangles of height 1 (HTK's mel scale, 0 to
    half the rate); Hann window of the power of two nearest to 46 ms (2048 at 44.1 kHz, 1024 at 16 to 24 kHz), every
    quarter of it, zeros around the sound; magnitudes such that a sine of full scale has about 1; floor 1e-5, -100 dB.
    Any length. NaN below 4 kHz, where triangles get narrower than the spectrum's lines.
    """
    import torch

    check_audio(original, decoded)
    if _broken(decoded):
        return math.inf
    if original.rate < _MEL_MIN_RATE:
        return math.nan
    size, bank = _mel_bank(original.rate)
    hann = torch.hann_window(size, dtype=torch.float64)
    total, count = 0.0, 0
    with torch.inference_mode():
        x, x_hat = _tensors(original, decoded, np.float64)
        for channel in range(x.shape[1]):
            levels = []
            for sound in (x, x_hat):
                lines = torch.stft(
                    sound[:, channel], size, size // 4, window=hann, pad_mode="constant", return_complex=True
                )
                bands = (lines.abs() * (2 / hann.sum())).transpose(1, 2) @ bank  # (1, frames, bands)
                levels.append(20 * bands.clamp(min=_MEL_FLOOR).log10())
            difference = (levels[0] - levels[1]).abs()
            total, count = total + float(difference.sum()), count + difference.numel()
    return total / count


# ---- models of hearing


def _resampled(x: Channel, rate: int, to: int) -> Channel:
    """The channel at another rate, by torchaudio with its defaults: a windowed sinc over 6 zero crossings, cut off at
    0.99 of the lower Nyquist frequency."""
    if rate == to:
        return x
    import torch

    functional = library("torchaudio.functional", "torchaudio")
    with torch.inference_mode():
        return functional.resample(torch.from_numpy(np.array(x)), rate, to).numpy()


def _mean_over_channels(
    original: Audio, decoded: Audio, measure: Callable[[Channel, Channel], Iterator[float]]
) -> float:
    """The mean of all that `measure` gives for the channels; NaN if that is nothing."""
    return _mean([value for pair in _channels(original, decoded) for value in measure(*pair)])


def pesq(original: Audio, decoded: Audio) -> float:
    """The MOS-LQO of PESQ, about 1 to 4.64; wide band from 16 kHz on, else narrow band, which aren't comparable.

    Resampled by torchaudio to 16 kHz, or to 8 kHz if the rate is below 16 kHz. Mean over channels, and over equal
    pieces of at most 15 seconds: PESQ is for short recordings, and the package crashes on those with more than 50
    utterances, which take 20 seconds at least. NaN for rates below 8 kHz or without a simple ratio to these, less than
    a quarter of a second, silence, and where PESQ finds no utterance; such pieces are left out if there are others.
    """
    check_audio(original, decoded)
    if _broken(decoded):
        return -math.inf
    rate, mode = (_WIDE, "wb") if original.rate >= _WIDE else (_NARROW, "nb")
    if original.rate < rate or rate // math.gcd(original.rate, rate) > _MAX_PHASES:
        return math.nan
    package = library("pesq", "pesq")

    def measure(x: Channel, x_hat: Channel) -> Iterator[float]:
        x, x_hat = _resampled(x, original.rate, rate), _resampled(x_hat, original.rate, rate)
        pieces = max(1, math.ceil(len(x) / (_PESQ_PIECE * rate)))
        for part, part_hat in zip(np.array_split(x, pieces), np.array_split(x_hat, pieces), strict=True):
            if not part.any():
                continue
            try:
                yield float(package.pesq(rate, part, part_hat, mode))
            except (package.PesqError, ValueError):  # too short, no utterance; or nothing decoded that has a level
                continue

    return _mean_over_channels(original, decoded, measure)


def stoi(original: Audio, decoded: Audio) -> float:
    """STOI, the correlation of short-time envelopes in 15 third-octave bands, up to 1; not the extended form.

    pystoi resamples to 10 kHz by itself and leaves out frames 40 dB below the loudest of the original. Mean over the
    channels where it is defined: NaN for silence, for less than 0.4 seconds (30 frames) that aren't silent, for rates
    below 8 kHz, as the bands end at 4.3 kHz, and for rates without a simple ratio to 10 kHz.
    """
    check_audio(original, decoded)
    if _broken(decoded):
        return -math.inf
    rate = original.rate
    phases = max(rate, _STOI_RATE) // math.gcd(rate, _STOI_RATE)
    if original.samples.shape[1] < _STOI_SECONDS * rate or rate < _STOI_MIN_RATE or phases > _MAX_PHASES:
        return math.nan
    package = library("pystoi", "pystoi")

    def measure(x: Channel, x_hat: Channel) -> Iterator[float]:
        if not x.any() or not x_hat.any():
            return
        with warnings.catch_warnings():  # with too few frames it warns and returns 1e-5, which looks like a result
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            try:
                yield float(package.stoi(x, x_hat, rate, extended=False))
            except RuntimeWarning:
                return

    return _mean_over_channels(original, decoded, measure)


@functools.lru_cache(maxsize=1)
def _visqol_api() -> Any:
    api = library("visqol", "visqol-python").VisqolApi()
    api.create(mode="audio")
    return api


def visqol(original: Audio, decoded: Audio) -> float:
    """The MOS-LQO of ViSQOL v3, audio mode, about 1 to 4.73 (equal sounds).

    Channels are averaged to one first, as the tool does with stereo files: what a codec does to the difference of the
    channels isn't heard. Resampled to 48 kHz by soxr; of a sound at a lower rate the bands above half of it are empty
    on both sides, so scores compare at equal rates only. The tool matches levels and aligns by itself, the whole and
    each patch of 0.6 seconds. It is slow: a second of sound takes two seconds of a core, or a fifth of one with numba
    (visqol-python[accel]).

    1 for a decoded sound that is silent. NaN for an original that is silent once its channels are averaged, where the
    tool would call any noise perfect, for less than 0.96 seconds, the least that it compares, and below 8 kHz.
    """
    check_audio(original, decoded)
    if _broken(decoded):
        return -math.inf
    if not _VISQOL_MIN_RATE <= original.rate <= MAX_RATE:
        return math.nan
    x, x_hat = (_at_48_khz(sound) for sound in (original, decoded))
    if len(x) < _VISQOL_SHORTEST or not x.any():
        return math.nan
    if not x_hat.any():
        return _VISQOL_WORST
    with np.errstate(all="ignore"):
        try:
            return float(_visqol_api().measure_from_arrays(x, x_hat, _VISQOL_RATE).moslqo)
        except ValueError:  # what is left of a short sound after its alignment
            return math.nan


def _at_48_khz(sound: Audio) -> Channel:
    """The mean of the channels at ViSQOL's rate, (N,)."""
    mid = np.asarray(sound.samples, np.float64).mean(axis=0).astype(np.float32)
    return resample(mid[:, None], sound.rate, _VISQOL_RATE)[:, 0].astype(np.float64)


AUDIO_METRICS = (
    Metric(
        "snr",
        "audio",
        "dB",
        "higher",
        "energy of all channels over that of the difference; infinite for equal sounds, NaN for noise on silence",
        snr,
        versions=versions_of("numpy"),
    ),
    Metric(
        "psnr",
        "audio",
        "dB",
        "higher",
        "full scale from peak to peak, squared, over the mean squared error of all channels, 6.02 dB more than with a "
        "peak of 1; infinite for equal sounds",
        psnr,
        versions=versions_of("numpy"),
    ),
    Metric(
        "si-sdr",
        "audio",
        "dB",
        "higher",
        "scale-invariant SDR without means, mean over channels; NaN if the original is constant (silence, one sample)",
        si_sdr,
        versions=versions_of("numpy"),
    ),
    Metric(
        "stft-distance",
        "audio",
        "",
        "lower",
        "spectral convergence + log magnitude difference, 3 STFTs (1024, 2048, 512); NaN for fewer than 1025 samples, "
        "what the largest needs, and for noise on silence",
        stft_distance,
        needs("auraloss"),
        versions_of("auraloss", "torch"),
    ),
    Metric(
        "mel-distance",
        "audio",
        "dB",
        "lower",
        "mean absolute difference of levels in 80 mel bands, floor -100 dB; NaN below 4 kHz, too few lines a band",
        mel_distance,
        needs("torchaudio"),
        versions_of("torchaudio", "torch"),
    ),
    Metric(
        "visqol",
        "audio",
        "MOS-LQO",
        "higher",
        "ViSQOL v3 in audio mode, of the mean of the channels at 48 kHz; slow; NaN for silence, for less than 0.96 s, "
        "the least that it compares, and below 8 kHz",
        visqol,
        needs("visqol"),
        versions_of("visqol-python", "soxr"),
        slow=True,
    ),
    Metric(
        "pesq",
        "audio",
        "MOS-LQO",
        "higher",
        "PESQ, wide band at 16 kHz, or narrow band at 8 kHz for rates below 16 kHz, mean over channels and pieces of "
        "at most 15 s; NaN where it finds no utterance, for silence, and for rates that can't be resampled",
        pesq,
        needs("pesq", "torchaudio"),
        versions_of("pesq", "torchaudio"),
    ),
    Metric(
        "stoi",
        "audio",
        "",
        "higher",
        "STOI, mean over channels; NaN with less than 0.4 s that isn't silent, below 8 kHz, and for rates that can't "
        "be resampled",
        stoi,
        needs("pystoi"),
        versions_of("pystoi", "scipy"),
    ),
)
