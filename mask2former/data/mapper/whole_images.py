"""The mapper of data sets whose images have one class each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from mask2former.data.images.limits import ImageError
from mask2former.data.images.read import read_image

POLICIES = ("imagenet", "cifar10", "svhn")
LONGEST = 16  # times the shorter side; more of an image is cut off before it is resized for a test


class ClassMapper:
    """Read an image, cut a square out of it and resize that, by torchvision's transforms.

    In training the square is random (area and aspect ratio as usual, 3/4 to 4/3), half of the images are mirrored, and
    AutoAugment may follow. In tests it is the central one.

    Args:
        is_train: cut at random.
        image_format: "RGB" or "BGR".
        num_classes: K.
        size: side of the result in pixels.
        area: least and greatest share of the image's area, in training.
        auto_augment: one of :data:`POLICIES`; "": none.
        test_share: of the shorter side, in tests.
        max_pixels: refuse larger images; None: the limit of the process.

    Raises:
        ValueError: an unknown policy.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        image_format: str,
        num_classes: int,
        size: int,
        area: tuple[float, float],
        auto_augment: str,
        test_share: float,
        max_pixels: int | None = None,
    ) -> None:
        from torchvision.transforms import v2  # 2 s, and needed here alone

        if auto_augment not in ("", *POLICIES):
            raise ValueError(
                f"INPUT.CLASSES.AUTO_AUGMENT is {auto_augment!r}; choose from {', '.join(POLICIES)} or ''."
            )
        self.image_format, self.num_classes, self.max_pixels = image_format, num_classes, max_pixels
        steps: list[Any] = [v2.Resize(round(size / test_share), antialias=True), v2.CenterCrop(size)]
        if is_train:
            steps = [v2.RandomResizedCrop(size, scale=tuple(area), antialias=True), v2.RandomHorizontalFlip()]
            if auto_augment:
                steps.append(v2.AutoAugment(v2.AutoAugmentPolicy(auto_augment)))
        self.steps = v2.Compose(steps)
        self.is_train = is_train

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict[str, Any]:
        node = cfg.INPUT.CLASSES
        return {
            "is_train": is_train,
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.CLASSIFIER.NUM_CLASSES,
            "size": node.SIZE,
            "area": tuple(node.AREA),
            "auto_augment": node.AUTO_AUGMENT,
            "test_share": node.TEST_SHARE,
            "max_pixels": cfg.INPUT.MAX_PIXELS,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with ``image``, uint8 [3, size, size].

        Raises:
            ImageError: the image cannot be read.
            ValueError: the record's class is not in [0, K).
        """
        name = record["file_name"]
        if not 0 <= record["class_id"] < self.num_classes:
            raise ValueError(
                f"{name}: its class is number {record['class_id']}, but MODEL.CLASSIFIER.NUM_CLASSES is "
                f"{self.num_classes}, so 0 to {self.num_classes - 1}."
            )
        try:
            image = read_image(name, "RGB", self.max_pixels)  # AutoAugment's colours are those of RGB
        except FileNotFoundError as error:
            raise ImageError(f"{name}: there is no such file.") from error
        square: Tensor = self.steps(torch.from_numpy(image if self.is_train else _middle(image)).permute(2, 0, 1))
        return {**record, "image": (square if self.image_format == "RGB" else square.flip(0)).contiguous()}


def _middle(image: np.ndarray) -> np.ndarray:
    """Cut the ends of a very long image off, which no central square sees, and which resizing would blow up.

    A line of 2 x 20,000 pixels would take 2 GB when its shorter side is resized to 256.

    Args:
        image: [H, W, 3].
    """
    most = LONGEST * min(image.shape[:2])
    rows, columns = (slice((side - most) // 2 if side > most else 0, None) for side in image.shape[:2])
    return image[rows, columns][:most, :most]
