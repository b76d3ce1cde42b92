"""Configuration keys of MaX-DeepLab; the defaults are MaX-DeepLab-S at 1025 pixels."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_max_deeplab_config(cfg: CN) -> None:
    """Add the keys to ``cfg``, in place."""
    node = cfg.MODEL.MAX_DEEPLAB = CN()
    # Encoder, also of MODEL.BACKBONE.NAME D2AxialResNet. 3x3 convolutions of the stem, the first of which strides.
    node.STEM_CHANNELS = [64, 64, 128]
    # Blocks and channels at strides 2, 4, 8, 16 and 16; 0 blocks at stride 2: no such stage.
    node.BLOCKS = [0, 3, 4, 6, 3]
    node.CHANNELS = [128, 256, 512, 1024, 2048]
    node.CONVOLUTIONS = "bottleneck"  # or basic: the blocks without axial attention
    # Depth of keys and values of axial attention, relative to a quarter of the block's channels.
    node.AXIAL_KEY_EXPANSION = 1
    node.AXIAL_VALUE_EXPANSION = 2
    node.NUM_HEADS = 8  # of all attentions
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # of D2AxialResNet
    # Decoder: strides in turn, and blocks at each. The first part is pre-trained with the encoder; blocks at stride 16
    # and the second part follow, which are not.
    node.DECODER_STRIDES = []
    node.DECODER_BLOCKS = 1
    node.EXTRA_BLOCKS = 1
    node.EXTRA_DECODER_STRIDES = [8, 4]
    node.EXTRA_DECODER_BLOCKS = 1
    # Dual-path blocks follow each block of stage 5 and later ones of stride 16, and of stage 4 if this is 4.
    node.DUAL_PATH_FROM_STAGE = 5
    node.MEMORY_CHANNELS = 256
    # Channels of the dual-path attention in stage 5, all heads together; in stage 4 in proportion to its channels.
    node.BOTTLENECK = 256
    node.KEY_CHANNELS = 128
    node.VALUE_CHANNELS = 256
    node.FEED_FORWARD = 2048
    # Attentions that there are: of pixels to pixels (axial; without it blocks are convolutions), of the memory to
    # pixels and to itself, of pixels to the memory.
    node.ATTENTIONS = ["P2P", "M2P", "M2M", "P2M"]
    # Greatest probability that an image skips a branch in training; from this stride on; grows with the stride
    # ("linear", as in the code) or is the same for all blocks ("constant", as in the paper).
    node.DROP_PATH = 0.2
    node.DROP_PATH_FROM_STRIDE = 16
    node.DROP_PATH_SCHEDULE = "linear"
    node.PRETRAINED_MULTIPLIER = 0.1  # of the learning rate of what is pre-trained on ImageNet
    # Heads.
    node.HEAD_CHANNELS = 256  # of the slots' class and mask features
    node.MASK_DIM = 128  # of the embeddings of masks and pixels
    node.MASK_SCALE = 0.1  # deviation of mask logits at the beginning; in short trainings it would not grow enough
    # Semantic branch of training: from this stage of the decoder, counted from 1; 0: from res5 through ASPP.
    node.SEMANTIC_STAGE = 0
    # MODEL.MASK_FORMER.TEST.PANOPTIC_RULE: TwoArgmaxMerger. Queries of at least the first score are kept; a pixel goes
    # to the kept query of the greatest logit, if that has more than the second of the kept ones' probability there.
    test = node.TEST = CN()
    test.CLASS_THRESHOLD = 0.7
    test.PIXEL_CONFIDENCE_THRESHOLD = 0.4
    # Least area of a thing and of all of a stuff class, in pixels of an image whose longer side is AREA_SIDE; with
    # AREA_SIDE 0, of the image itself. (At 641 pixels, 100 and 1600 are published.)
    test.THING_AREA_LIMIT = 256
    test.STUFF_AREA_LIMIT = 4096
    test.AREA_SIDE = 1025
