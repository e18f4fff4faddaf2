"""Settings of the image model and of the classifier that judges its samples."""

from dataclasses import dataclass

from safeplan.errors import ConfigError


@dataclass(frozen=True)
class ImageConfig:
    """Settings of the class-conditional image model and of its training."""

    width: int = 32  # channels of the U-Net's first level, a multiple of 8; a small one makes a weak net
    levels: int = 3  # level k has k times as many channels and half the resolution of the one before
    patch: int = 2  # pixels that become one cell of the U-Net, per side
    head_width: int = 32  # channels of one attention head
    predict: str = "edm"  # edm (EDM's path and preconditioning) | v (cosine variance-preserving path)
    batch: int = 64  # images per update
    lr: float = 1e-3  # AdamW
    weight_decay: float = 0.0
    warmup: int = 100  # updates until lr is reached
    decay_updates: int = 0  # cosine to a tenth of lr over so many updates; 0 keeps lr constant
    clip_grad: float = 1.0  # largest norm of the gradient
    ema_rate: float = 0.002  # of the weights that are used; larger at first
    drop: float = 0.1  # probability of training without the label, for guidance
    bf16: bool = False  # run the network in bfloat16 (autocast): for CUDA and for CPUs that have it

    def __post_init__(self) -> None:
        for name in ("width", "levels", "patch", "head_width", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"image: {name}={getattr(self, name)}, expected at least 1")
        if self.width % 8 or self.width % min(self.head_width, self.width):
            raise ConfigError(
                f"image: width={self.width}, expected a multiple of 8 and of head_width {self.head_width}"
            )
        if 32 % (self.patch * 2 ** (self.levels - 1)):
            raise ConfigError(f"image: patch={self.patch} and levels={self.levels} do not divide 32 pixels")
        if self.predict not in ("edm", "v"):
            raise ConfigError(f"image: predict={self.predict!r}, use edm or v")
        if not 0 <= self.drop < 1 or self.lr <= 0:
            raise ConfigError(f"image: need 0 <= drop < 1 and lr > 0; got drop={self.drop}, lr={self.lr}")


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of the image classifier and of its training."""

    width: int = 32  # channels of the first layer; the others have 2 and 4 times as many
    batch: int = 128  # images per update
    lr: float = 1e-3  # AdamW
    weight_decay: float = 1e-2
    warmup: int = 50  # updates until lr is reached
    decay_updates: int = 0  # cosine to a tenth of lr over so many updates; 0 keeps lr constant

    def __post_init__(self) -> None:
        for name in ("width", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"classifier: {name}={getattr(self, name)}, expected at least 1")
        if self.lr <= 0 or self.width % 8:
            raise ConfigError(f"classifier: need lr > 0 and width a multiple of 8; got {self.lr} and {self.width}")
