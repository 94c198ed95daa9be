"""VQGAN for RGB pictures: pixels to an index map to bytes, and back.

Mao, Yang, Zhang, Wang, Wang, Wang, Jin, Ma, "Extreme Image Compression using Fine-tuned VQGANs", DCC 2024, arXiv
2307.08265. The network, and where it differs: network.py.

A picture is filled up to multiples of 16 by reflection, each 16x16 pixels become the index of a codeword, and the file
holds the indices. `quality` chooses among the codebooks, of 8 to 16384 words: 1 to 100 is cut into as many equal steps
as there are, twelve; a goal (--size, --bpp, --psnr) takes the best of them. Decoding is exact: pixels are the same on
every machine, whatever the engine, the number of threads and the bands or tiles that a picture was cut into for memory.
Encoding is float: two machines may choose another codeword where two are all but equally near, and each of their files
decodes to what its encoder meant. (With the network `paper`, for which no weights ship, indices are exact and pixels
float32: paper_model.py.) What packets lost is estimated: by the transformer that ships for the weights (restore.py) for
codebooks that it knows, up to 2048 words; else from the cells around.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...container import MAX_PACKETS, PACKET, Chunk, Header
from ...errors import StreamError, UsageError
from ..base.codec import EncodedPixels
from ..base.image import ImageCodec
from ..base.settings import Setting
from ..base.weights import load_weights
from ..layers.tiles import CELL
from . import CARD, indices, packets
from .config import codebook_of
from .restore_baselines import nearest
from .weights import VqganModel, any_model

if TYPE_CHECKING:
    from typing_extensions import Self

    from .paper_model import VqganPaperModel

__all__ = ["DEFAULT_QUALITY", "VqganCodec"]

_INDICES = "Indx"
_BITS = "bits"  # of an index: log2 of the words in the codebook
_PACKETS = "packets"
_FIXED = "fixed"
DEFAULT_QUALITY = 71.0  # 2048 words, the largest of the paper's


class VqganCodec(ImageCodec):
    """The codec `vqgan`: see the module's docstring.

    quality: 1 to 100, 0.007 to 0.04 bits per pixel. coder: of indices; None: the best for which the weights have a
    model. packets: the file is cut into so many, any of which may be lost.
    """

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    selection: ClassVar[tuple[Setting, ...]] = CARD.selection
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({_INDICES, PACKET})
    pixels_per_byte: ClassVar[int] = 1 << 13  # 3 bits for 256 pixels, of which an index coder leaves a few hundredths
    compact: ClassVar[bool] = True
    sweep: ClassVar[tuple[int, ...]] = (5, 13, 22, 30, 38, 46, 55, 63, 71, 79, 88, 96)  # each codebook
    coders: ClassVar[tuple[str, ...]] = indices.METHODS

    def __init__(
        self,
        model: VqganModel | VqganPaperModel,
        quality: float | None = None,
        device: str = "cpu",
        coder: str | None = None,
        packets: int | None = None,
    ) -> None:
        self.model, self.quality, self.device, self.coder, self.packets = model, quality, device, coder, packets

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        return cls(any_model(load_weights(cls.name, tag, weights), device), quality, device)

    def check_settings(self) -> None:
        if self.coder is not None and self.coder not in self.coders:
            raise UsageError(f"vqgan has no coder {self.coder!r}: there are {', '.join(self.coders)}")
        if self.packets is not None and not 1 <= self.packets <= MAX_PACKETS:
            raise UsageError(f"{self.packets} packets: vqgan takes 1 to {MAX_PACKETS}")
        if self.packets is not None and self.coder not in (None, _FIXED):
            raise UsageError(f"packets hold indices as coder {_FIXED!r}: leave out coder {self.coder!r}, or packets")
        bits = self.bits_of(None)
        if not self._coded(bits):
            others = f", or a quality among {', '.join(map(str, self.steps))}" if self.steps else ""
            raise UsageError(
                f"these weights have no model of coder {self.coder!r} for {1 << bits} words: name another coder{others}"
            )

    @property
    def weights_id(self) -> bytes:
        return self.model.id

    @property
    def steps(self) -> tuple[float, ...]:
        """A quality of each codebook for which the coder has a model."""
        n_books = len(self.model.codebooks)
        able = [k for k, size in enumerate(self.model.codebooks) if self._coded(size.bit_length() - 1)]
        return tuple(round(1 + 99 * (k + 0.5) / n_books, 1) for k in able)

    def _coded(self, bits: int) -> bool:
        """Whether the coder can code indices of so many bits."""
        return self.coder is None or self.coder in self.model.models.methods(bits)

    def bits_of(self, quality: float | None) -> int:
        """The bits of an index, which choose the codebook; quality None: the codec's.

        Where neither is set: the default, or the largest codebook below it for which the coder has a model.
        """
        quality = self.quality if quality is None else quality
        if quality is None:
            return self._default_bits
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: vqgan takes 1 to 100")
        return codebook_of(self.model.codebooks, quality).bit_length() - 1

    @property
    def _default_bits(self) -> int:
        default = codebook_of(self.model.codebooks, DEFAULT_QUALITY).bit_length() - 1
        books = (size.bit_length() - 1 for size in self.model.codebooks)
        able = [bits for bits in books if bits <= default and self._coded(bits)]
        return able[-1] if able else default

    # ---- encoding

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        bits = self.bits_of(quality)
        index_map = self.indices(pixels, bits)
        if self.packets is None:
            coder = self.coder or self.model.models.methods(bits)[0]
            payload = indices.encode(index_map, bits, coder, self.model.models)
            return EncodedPixels([Chunk(_INDICES, payload)], {_BITS: bits}, coder, self.model.arithmetic)
        chunks = packets.write(index_map, bits, self.packets)
        return EncodedPixels(chunks, {_BITS: bits, _PACKETS: len(chunks)}, _FIXED, self.model.arithmetic)

    def indices(self, pixels: NDArray[Any], bits: int) -> NDArray[np.int32]:
        """The index map of a picture, (ceil(H / 16), ceil(W / 16)), below 2**bits.

        pixels: (H, W, 3) uint8 or uint16. UsageError for anything else, and for a codebook that there isn't.
        """
        sizes = [size.bit_length() - 1 for size in self.model.codebooks]
        if type(bits) is not int or bits not in sizes:
            raise UsageError(f"a codebook of indices of {bits!r:.80} bits; expected one of {sizes!r:.80}")
        shape, dtype = getattr(pixels, "shape", ()), getattr(pixels, "dtype", None)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype not in (np.uint8, np.uint16):
            raise UsageError(f"pixels of {dtype} and shape {tuple(shape)}; expected uint8 or uint16 of (H, W, 3)")
        return self.model.networks.indices(pixels, 1 << bits)

    # ---- decoding

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        index_map, bits = self.read_indices(header, chunks)
        return self.model.networks.pixels(index_map, 1 << bits, height, width, np.dtype(header.dtype))

    def read_indices(self, header: Header, chunks: Sequence[Chunk]) -> tuple[NDArray[np.int32], int]:
        """The index map of a file, and the bits of an index. Where packets are lost it is restored."""
        bits, n_packets = header.params.get(_BITS), header.params.get(_PACKETS)
        sizes = [size.bit_length() - 1 for size in self.model.codebooks]
        if type(bits) is not int or bits not in sizes:
            raise StreamError(f"indices of {bits!r:.80} bits; expected {sizes[0]} to {sizes[-1]}: the file is damaged")
        h, w = (-(-side // CELL) for side in header.shape[:2])
        if n_packets is None:
            payloads = [chunk.payload for chunk in chunks if chunk.tag == _INDICES]
            if len(payloads) != 1 or any(chunk.tag == PACKET for chunk in chunks):
                raise StreamError(f"{len(payloads)} chunks of indices, expected 1: the file is damaged")
            return indices.decode(payloads[0], header.coder, bits, (h, w), self.model.models), bits
        own = [chunk for chunk in chunks if chunk.tag in (_INDICES, PACKET)]
        if type(n_packets) is not int or n_packets != len(own) or header.coder != _FIXED:
            raise StreamError(f"{len(own)} packets of {n_packets!r:.80}: the file is damaged")
        index_map, lost = packets.read(own, bits, (h, w))
        return (self._restored(index_map, lost, bits) if lost.any() else index_map), bits

    def _restored(self, index_map: NDArray[np.int32], lost: NDArray[np.bool_], bits: int) -> NDArray[np.int32]:
        """The map with what was lost estimated; from the cells around where no restorer knows the codebook."""
        restorer = self.model.restorer
        if restorer is None or not restorer.knows(1 << bits):
            return nearest(index_map, lost)
        return restorer.restore(index_map, lost, 1 << bits, self.model.codewords(1 << bits))
