"""`Codec.load` typed by the name of the codec, for type checkers; tests/codecs/base/test_named.py writes it.

Nothing imports this when the package runs: a base knows no family.
"""

from typing import Generic, Literal, TypeVar, overload

from ...files import PathLike
from ..circuit.codec import CircuitCodec
from ..dualgs.codec import DualgsCodec
from ..entropic_student.codec import EntropicStudentCodec
from ..interp.codec import InterpCodec
from ..mixing.codec import MixCodec
from ..nirvana.codec import NirvanaCodec
from ..s2lic.codec import S2licCodec
from ..vqgan.codec import VqganCodec
from ..walloc.audio.codec import WallocAudioCodec
from ..walloc.codec import WallocCodec
from ..zipgan.codec import ZipganCodec
from .codec import Codec

C = TypeVar("C", bound=Codec)

class Load(Generic[C]):
    """The codec of this name, with a tag or without: "walloc", "walloc@16x".

    quality: what `compress` uses if it isn't told; None: the family's default. weights: a safetensors file in place of
    the shipped one. device: as torch names it, or "auto", a GPU if there is one. Raises UsageError (a device that can't
    be used too), WeightsError.
    """

    @overload
    def __call__(
        self,
        name: Literal["circuit", "circuit@fashion", "circuit@mnist"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> CircuitCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["dualgs"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> DualgsCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["entropic-student", "entropic-student@lite0"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> EntropicStudentCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["interp"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> InterpCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["mix"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> MixCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["nirvana", "nirvana@grid", "nirvana@paper"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> NirvanaCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["s2lic", "s2lic@small", "s2lic@small-ms-ssim"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> S2licCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["vqgan", "vqgan@small"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> VqganCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["walloc", "walloc@16x", "walloc@4x"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> WallocCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["walloc-audio", "walloc-audio@lapped", "walloc-audio@packets"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> WallocAudioCodec: ...
    @overload
    def __call__(
        self,
        name: Literal["zipgan", "zipgan@512x", "zipgan@64x", "zipgan@8x"],
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> ZipganCodec: ...
    @overload
    def __call__(
        self,
        name: str,
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> C: ...

class LoadByName:
    def __get__(self, instance: object, owner: type[C]) -> Load[C]: ...
