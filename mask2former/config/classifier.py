"""Configuration keys of backbones that learn to classify whole images, before they learn to segment."""

from detectron2.config import CfgNode as CN


def add_classifier_keys(cfg: CN) -> None:
    """Add the keys to ``cfg``, in place."""
    # MODEL.META_ARCHITECTURE: ImageClassifier, any backbone and a linear layer on the mean of one of its features.
    model = cfg.MODEL.CLASSIFIER = CN()
    model.NUM_CLASSES = 1000
    model.FEATURE = "res5"
    model.LABEL_SMOOTHING = 0.1

    # Data sets of images in one folder for each class. Sides are in pixels; the rest is INPUT.FORMAT.
    data = cfg.INPUT.CLASSES = CN()
    data.SIZE = 224  # side of the square that the network sees
    data.AREA = [0.08, 1.0]  # share of the image's area that a training crop has
    data.AUTO_AUGMENT = ""  # "imagenet", "cifar10" or "svhn": the policy of AutoAugment (arXiv 1805.09501)
    data.TEST_SHARE = 0.875  # of the image's shorter side that the central square has in tests
