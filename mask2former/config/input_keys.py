"""Configuration keys of images, their augmentation, and clips of videos."""

from detectron2.config import CfgNode as CN


def add_input_keys(cfg: CN) -> None:
    inputs = cfg.INPUT
    # Preset of the data mapper: mask_former_semantic, mask_former_panoptic, mask_former_instance (resize and crop),
    # coco_panoptic_lsj, coco_instance_lsj (large-scale jitter); kmax_panoptic (of kMaX-DeepLab: jitter in INPUT.CANVAS,
    # and copy-paste), max_deeplab_panoptic (of MaX-DeepLab: scales in steps of 0.1, padding at a random place).
    inputs.DATASET_MAPPER_NAME = "mask_former_semantic"
    # Vary brightness, contrast, saturation and hue at random, as SSD does.
    inputs.COLOR_AUG_SSD = False
    # Redraw a random crop while one category covers more than this share of it; 1.0: never.
    inputs.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # Refuse images and annotations of more pixels than this, before memory is taken for them.
    inputs.MAX_PIXELS = 180_000_000
    # An image or annotation file that cannot be read stops the run, or is skipped: training takes another image, and in
    # evaluation nothing can be seen on it. Skipped files are listed in bad_images.jsonl, and their share is said.
    cfg.DATALOADER.ON_BAD_IMAGE = "stop"
    # The mapper pads training images to a multiple of this, in pixels; -1: no padding.
    inputs.SIZE_DIVISIBILITY = -1

    # Large-scale jitter: side of the square crop in pixels, and the range of the random scale relative to it.
    inputs.IMAGE_SIZE = 1024
    inputs.MIN_SCALE = 0.1
    inputs.MAX_SCALE = 2.0

    # Panoptic and instance data: paste all things of another training image, and of a panoptic one some stuff too, into
    # this share of the images. The other image has the sizes above, and MIN_SIZE_TRAIN, times SCALE.
    inputs.COPY_PASTE = CN()
    inputs.COPY_PASTE.ENABLED = False
    inputs.COPY_PASTE.PROBABILITY = 1.0
    inputs.COPY_PASTE.SCALE = 0.5

    # Train on smaller images at first: sides relative to the sizes above and to INPUT.MIN_SIZE_TRAIN and CROP.SIZE, and
    # the share of the iterations that have each.
    inputs.PROGRESSIVE = CN()
    inputs.PROGRESSIVE.ENABLED = False
    inputs.PROGRESSIVE.SIZES = [0.5, 0.75, 1.0]
    inputs.PROGRESSIVE.SHARES = [0.4, 0.3, 0.3]
    inputs.PROGRESSIVE.SCALE_BATCH = False  # as many more images a step as are as many pixels
    # Multiply the learning rate by the root of that; only with SOLVER.LR_SCHEDULER_NAME WarmupPolyLR.
    inputs.PROGRESSIVE.SCALE_LR = False


def add_clip_keys(cfg: CN) -> None:
    inputs = cfg.INPUT
    # Frames of a clip; the greatest distance of the others from the first one, in frames; whether they
    # are shuffled.
    inputs.SAMPLING_FRAME_NUM = 2
    inputs.SAMPLING_FRAME_RANGE = 20
    inputs.SAMPLING_FRAME_SHUFFLE = False
    # Extra augmentations by name, drawn anew for each frame: brightness, contrast, saturation, rotation.
    inputs.AUGMENTATIONS = []
