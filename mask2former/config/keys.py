"""Every configuration key that this project adds to Detectron2's, with its unit and meaning.

Names and defaults are those of the published Mask2Former, so that YAML files written for it go on working. The
defaults come from MaskFormer (v1) for its sake; the files below ``configs/_base_`` set what Mask2Former uses.
"""

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg


def add_maskformer2_config(cfg: CN) -> None:
    """Add all keys to ``cfg`` (the result of ``detectron2.config.get_cfg()``), in place.

    Keys that are there already keep their values, so other projects' keys (``add_deeplab_config``) may be added before
    or after, and these twice.
    """
    defaults = get_cfg()
    for add in (_add_input, _add_solver, _add_head, _add_mask_former, _add_backbones, _add_evaluation, _add_wandb):
        add(defaults)
    _add_missing(cfg, defaults)


def _add_missing(cfg: CN, defaults: CN) -> None:
    for key, value in defaults.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CN) and isinstance(cfg[key], CN):
            _add_missing(cfg[key], value)


def _add_input(cfg: CN) -> None:
    inputs = cfg.INPUT
    # Preset of the one data mapper: mask_former_semantic, mask_former_panoptic, mask_former_instance (resize and
    # crop), coco_panoptic_lsj, coco_instance_lsj (large-scale jitter).
    inputs.DATASET_MAPPER_NAME = "mask_former_semantic"
    # Random brightness, contrast, saturation and hue in the manner of SSD.
    inputs.COLOR_AUG_SSD = False
    # A random crop is drawn again while one category covers more than this share of it; 1.0: never.
    inputs.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # Training images are padded to a multiple of this, in pixels; -1: no padding by the mapper.
    inputs.SIZE_DIVISIBILITY = -1

    # Large-scale jitter: side of the square crop in pixels, and the range of the random scale relative to it.
    inputs.IMAGE_SIZE = 1024
    inputs.MIN_SCALE = 0.1
    inputs.MAX_SCALE = 2.0

    # Clips (video): frames of a clip; how far from the first one the others are drawn, in frames; their order.
    inputs.SAMPLING_FRAME_NUM = 2
    inputs.SAMPLING_FRAME_RANGE = 20
    inputs.SAMPLING_FRAME_SHUFFLE = False
    # Clips (video): extra augmentations by name, such as "brightness" and "crop".
    inputs.AUGMENTATIONS = []


def _add_solver(cfg: CN) -> None:
    solver = cfg.SOLVER
    solver.OPTIMIZER = "ADAMW"  # or SGD
    # Learning rate of the backbone relative to SOLVER.BASE_LR.
    solver.BACKBONE_MULTIPLIER = 0.1
    # Weight decay of embeddings (queries, levels); SOLVER.WEIGHT_DECAY_NORM is that of normalisation layers.
    solver.WEIGHT_DECAY_EMBED = 0.0
    # SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR": rate = base * (1 - iteration / MAX_ITER) ** power, not below
    # base * constant ending (where that is over 0).
    solver.POLY_LR_POWER = 0.9
    solver.POLY_LR_CONSTANT_ENDING = 0.0
    # Number format of mixed precision (SOLVER.AMP.ENABLED): float16, bfloat16, or auto: float16 with loss scaling
    # on a GPU as published; bfloat16 on a CPU that computes in it, float32 on others.
    solver.AMP.DTYPE = "auto"
    # The images of a step (IMS_PER_BATCH) are taken in this many parts, one after the other: the memory of a part,
    # the learning of the whole, but that each part divides its losses by its own number of masks.
    solver.ACCUMULATE_STEPS = 1


def _add_head(cfg: CN) -> None:
    head = cfg.MODEL.SEM_SEG_HEAD
    head.PIXEL_DECODER_NAME = "BasePixelDecoder"
    # Channels of the mask embeddings and of the mask features.
    head.MASK_DIM = 256
    # Transformer layers of the pixel decoder.
    head.TRANSFORMER_ENC_LAYERS = 0
    # Multi-scale deformable attention: backbone features it runs over, sampling points of each head in each level.
    # Its heads are MASK_FORMER.NHEADS; N_HEADS is a name of the published system that it never reads.
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ["res3", "res4", "res5"]
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS = 4
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS = 8
    # Channels of its feed-forward layers.
    head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD = 1024

    # Read by Detectron2's DeepLab heads only; here so that files that name them load.
    head.LOSS_TYPE = "hard_pixel_mining"
    head.PROJECT_FEATURES = ["res2"]
    head.PROJECT_CHANNELS = [48]
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False


def _add_mask_former(cfg: CN) -> None:
    node = cfg.MODEL.MASK_FORMER = CN()

    # Losses. How masks are compared, in the loss and in the matching: "points", binary cross-entropy at sampled points
    # (Mask2Former); "focal", sigmoid focal loss (alpha 0.25, gamma 2) over whole masks, as MaskFormer was trained.
    node.MASK_LOSS = "points"
    # Registered parts of the training: criterion, matcher, and the terms of the loss.
    node.CRITERION = "SetCriterion"
    node.MATCHER = "HungarianMatcher"
    node.LOSS_TERMS = ["ClassLoss", "MaskAndDiceLoss"]
    # Weights of classification, loss of the mask and dice, in the loss and in the matching.
    node.CLASS_WEIGHT = 1.0
    node.MASK_WEIGHT = 20.0
    node.DICE_WEIGHT = 1.0
    # Weight of the class "no object" in the cross-entropy, relative to 1.
    node.NO_OBJECT_WEIGHT = 0.1
    # Supervise the prediction of every decoder layer.
    node.DEEP_SUPERVISION = True
    # For "points": points sampled in a mask for matching and for the mask losses; candidates drawn for each point of
    # the loss; share of the points that are the most uncertain candidates (the others are random).
    node.TRAIN_NUM_POINTS = 112 * 112
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75

    # Transformer decoder.
    node.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    # Backbone feature the decoder attends to, "transformer_encoder", "pixel_embedding", or
    # "multi_scale_pixel_decoder" (Mask2Former).
    node.TRANSFORMER_IN_FEATURE = "res5"
    # Channels of queries and attention, attention heads, channels of the feed-forward layers.
    node.HIDDEN_DIM = 256
    node.NHEADS = 8
    node.DIM_FEEDFORWARD = 2048
    node.DROPOUT = 0.1
    node.PRE_NORM = False
    # Encoder layers before the decoder (MaskFormer v1). Predictions of the decoder: one from the learnt queries and
    # one from each layer, so 10 means nine layers.
    node.ENC_LAYERS = 0
    node.DEC_LAYERS = 6
    # Not read by PerPixelBaselinePlusHead, whose queries are the classes.
    node.NUM_OBJECT_QUERIES = 100
    # Project the input by a 1x1 convolution even if its channels fit.
    node.ENFORCE_INPUT_PROJ = False

    # Images are padded to a multiple of this, in pixels.
    node.SIZE_DIVISIBILITY = 32

    node.TEST = CN()
    # Results that inference gives.
    node.TEST.SEMANTIC_ON = True
    node.TEST.INSTANCE_ON = False
    node.TEST.PANOPTIC_ON = False
    # Panoptic: least score of a query that is kept, and least share of a mask that must survive the argmax.
    node.TEST.OBJECT_MASK_THRESHOLD = 0.0
    node.TEST.OVERLAP_THRESHOLD = 0.0
    # Registered rule that makes a panoptic image of masks.
    node.TEST.PANOPTIC_RULE = "PanopticMerger"
    # Resize masks to the image before the semantic sum over queries, not after it. Panoptic and instance results
    # imply it.
    node.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = False


def _add_backbones(cfg: CN) -> None:
    # Parts whose layers compute activations again in the backward pass to save memory, of: backbone (ResNet, Swin),
    # pixel_decoder, transformer_decoder. Same losses and gradients.
    cfg.MODEL.CHECKPOINT = []

    # The ResNets are Detectron2's; these two keys are read for the DeepLab variant.
    cfg.MODEL.RESNETS.RES4_DILATION = 1
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]
    # "basic" is Detectron2's stem; "deeplab" three 3x3 convolutions.
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"

    swin = cfg.MODEL.SWIN = CN()
    swin.PRETRAIN_IMG_SIZE = 224  # pixels; size of the absolute position embedding, where there is one
    swin.PATCH_SIZE = 4  # pixels
    swin.EMBED_DIM = 96  # channels of the first stage; doubled by each further one
    swin.DEPTHS = [2, 2, 6, 2]  # blocks of each stage
    swin.NUM_HEADS = [3, 6, 12, 24]
    swin.WINDOW_SIZE = 7  # patches
    swin.MLP_RATIO = 4.0
    swin.QKV_BIAS = True
    swin.QK_SCALE = None  # None: 1 / sqrt(channels of a head)
    swin.DROP_RATE = 0.0
    swin.ATTN_DROP_RATE = 0.0
    swin.DROP_PATH_RATE = 0.3
    swin.APE = False  # absolute position embedding
    swin.PATCH_NORM = True
    swin.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    swin.USE_CHECKPOINT = False  # recompute activations in the backward pass to save memory

    # MODEL.BACKBONE.NAME: TimmBackbone. Its features are named by stride: 4, 8, 16, 32 are res2, res3, res4, res5.
    # Images are normalised by MODEL.PIXEL_MEAN and PIXEL_STD, as everywhere; a few models want others.
    node = cfg.MODEL.TIMM = CN()
    node.NAME = "convnext_tiny"  # any model of timm that gives a pyramid; "convnext_tiny.fb_in22k" with its weights
    node.PRETRAINED = True  # timm loads the weights of that name, where MODEL.WEIGHTS names none
    node.OUT_INDICES = []  # numbers of timm's levels; empty: those of strides 4 to 32
    node.FREEZE_NORM = False  # batch normalisation keeps its statistics, as in Detectron2's ResNets
    node.ARGUMENTS = CN(new_allowed=True)  # further ones of timm.create_model, such as drop_path_rate: 0.2


def _add_evaluation(cfg: CN) -> None:
    # Ours, not the published system's. Wherever instances are scored by COCO's code: average precision by Boundary IoU
    # too (arXiv 2103.16562).
    cfg.TEST.BOUNDARY_AP = False
    # Wherever Detectron2's evaluator scores semantic results: its main branch's Boundary IoU too (0.6 has none), which
    # takes a boundary of the map of labels and so depends on how the classes are numbered.
    cfg.TEST.BOUNDARY_IOU = False
    # On panoptic data sets: panoptic quality also of the segments that the semantic result makes by itself.
    cfg.TEST.SEMANTIC_PQ = False
    # Evaluation writes report.html and scores.json into OUTPUT_DIR.
    cfg.TEST.REPORT = True


def _add_wandb(cfg: CN) -> None:
    # Scalars of the training to Weights & Biases as well; needs its package (pip install wandb) and an account, or its
    # mode "offline" (environment variable WANDB_MODE).
    cfg.WANDB = CN()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "mask2former"
    cfg.WANDB.NAME = ""  # of the run; empty: the output folder's
