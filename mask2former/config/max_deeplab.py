"""Configuration keys of MaX-DeepLab and of its axial ResNets. The defaults are MaX-DeepLab-S."""

from detectron2.config import CfgNode as CN


def add_max_deeplab_config(cfg: CN) -> None:
    """Add the keys to ``cfg``, in place."""
    # MODEL.BACKBONE.NAME: D2AxialResNet, without a memory, for any head; or D2MaXDeepLab, with the keys below too.
    resnet = cfg.MODEL.AXIAL_RESNET = CN()
    resnet.STEM_CHANNELS = [64, 64, 128]  # of its 3x3 convolutions, the first of stride 2
    # Stages 1 to 5, of strides 2, 4, 8, 16 and 16: blocks (stage 1 may have none), and output channels.
    resnet.DEPTHS = [0, 3, 4, 6, 3]
    resnet.CHANNELS = [128, 256, 512, 1024, 2048]
    resnet.CONVOLUTION = "bottleneck"  # kind of the blocks that are not axial, or "basic"
    resnet.AXIAL_STAGES = [4, 5]  # whose blocks have axial attention, but for the one that strides
    # Key and value channels of axial attention, relative to a quarter of the block's channels.
    resnet.KEY_EXPANSION = 1
    resnet.VALUE_EXPANSION = 2
    resnet.NUM_HEADS = 8
    # Stochastic depth of the last blocks. "linear": it falls towards the image, to 0 at stride 2; "constant", as in the
    # paper. Blocks whose input has a smaller stride than this have none.
    resnet.DROP_PATH = 0.2
    resnet.DROP_PATH_SCHEDULE = "linear"
    resnet.DROP_PATH_FROM_STRIDE = 16
    resnet.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # of D2AxialResNet

    # MODEL.META_ARCHITECTURE: MaXDeepLab. MODEL.MASK_FORMER.NUM_OBJECT_QUERIES is the number of slots.
    node = cfg.MODEL.MAX_DEEPLAB = CN()
    # Attentions of the dual-path blocks and their residual blocks, P of pixels and M of memory, "query 2 keys"; leave
    # one out for an ablation. Without P2P axial blocks are convolutions.
    node.ATTENTIONS = ["P2P", "M2P", "M2M", "P2M"]
    node.DUAL_PATH_STAGES = [5]  # stages of the ResNet with dual-path blocks; the decoder has them at stride 16
    node.MEMORY_CHANNELS = 256
    # Key channels of dual-path blocks at the last stage, and in proportion at others; values have twice as many.
    node.KEY_CHANNELS = 128
    node.DIM_FEEDFORWARD = 2048  # of the memory
    node.NUM_HEADS = 8
    # Rounds of the decoder through strides 8, 4, 8 and 16, before its end at 8 and 4: those that are pre-trained with
    # the ResNet, with one block a stage, and the others.
    node.PRETRAINED_ROUNDS = 0
    node.NEW_ROUNDS = 0
    node.DECODER_BLOCKS = 1  # blocks of each stage that is not pre-trained
    node.HEAD_CHANNELS = 256  # of the slots' class and mask features
    node.PIXEL_HEAD_CHANNELS = 256  # hidden channels of the pixels' embeddings
    node.MASK_DIM = 128  # channels of masks' and pixels' embeddings
    node.MASK_SCALE = 0.1  # deviation of mask logits at the beginning; in short trainings it would not grow enough
    # The auxiliary semantic branch is a decoder from the ResNet's features; or a head on the first feature of stride 4
    # of the decoder's new part.
    node.SEMANTIC_DECODER = True

    # MODEL.MASK_FORMER.TEST.PANOPTIC_RULE: TwoArgmaxMerger. Queries of at least the first score are kept; a pixel goes
    # to the kept query of the greatest logit, if that has more than the second of the kept ones' probability there.
    test = cfg.MODEL.MAX_DEEPLAB.TEST = CN()
    test.CLASS_THRESHOLD = 0.7
    test.PIXEL_CONFIDENCE_THRESHOLD = 0.4
    # Least area of a thing and of all of a stuff class, in pixels of an image whose longer side is AREA_SIDE; with
    # AREA_SIDE 0, of the image itself. (At 641 pixels, 100 and 1600 are published.)
    test.THING_AREA_LIMIT = 256
    test.STUFF_AREA_LIMIT = 4096
    test.AREA_SIDE = 1025
