"""Configuration keys of networks, losses and results; backbones; teachers and masks that guide."""

from detectron2.config import CfgNode as CN


def add_head_keys(cfg: CN) -> None:
    head = cfg.MODEL.SEM_SEG_HEAD
    head.PIXEL_DECODER_NAME = "BasePixelDecoder"
    # Channels of the mask embeddings and of the mask features.
    head.MASK_DIM = 256
    # Transformer layers of the pixel decoder.
    head.TRANSFORMER_ENC_LAYERS = 0
    # Multi-scale deformable attention: the backbone features that it encodes, and the sampling points of each head in
    # each level. It has MASK_FORMER.NHEADS heads; N_HEADS exists because the published system has it, and is not read.
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ["res3", "res4", "res5"]
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS = 4
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS = 8
    # Channels of its feed-forward layers.
    head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD = 1024

    # Read only by Detectron2's DeepLab heads; defined here so that files that name them can be loaded.
    head.LOSS_TYPE = "hard_pixel_mining"
    head.PROJECT_FEATURES = ["res2"]
    head.PROJECT_CHANNELS = [48]
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False


def add_mask_former_keys(cfg: CN) -> None:
    node = cfg.MODEL.MASK_FORMER = CN()

    # Losses. Comparison of masks, in the loss and in the matching: "points", binary cross-entropy at sampled points
    # (Mask2Former); "focal", sigmoid focal loss (alpha 0.25, gamma 2) over whole masks, with which MaskFormer was
    # trained; or a registered class.
    node.MASK_LOSS = "points"
    # Registered criterion and matcher, and the registered terms of the loss.
    node.CRITERION = "SetCriterion"
    node.MATCHER = "HungarianMatcher"
    node.LOSS_TERMS = ["ClassLoss", "MaskAndDiceLoss"]
    # Weights of classification, mask loss and dice loss, in the loss and in the matching.
    node.CLASS_WEIGHT = 1.0
    node.MASK_WEIGHT = 20.0
    node.DICE_WEIGHT = 1.0
    # Weight of the class "no object" in the cross-entropy, relative to 1.
    node.NO_OBJECT_WEIGHT = 0.1
    # Weights of single classes in the cross-entropy, against imbalance: a number for each class in order, or
    # "name=weight" for some by name or number, the others being 1. Empty: all 1.
    node.CLASS_WEIGHTS = []
    # Semantic data alone: pixels in no mask (label 255) count as outside of each mask. False leaves them, and padding,
    # out of mask and dice loss.
    node.UNLABELED_IS_BACKGROUND = True
    # Supervise the prediction of every decoder layer.
    node.DEEP_SUPERVISION = True
    # For "points": points sampled in a mask, for the matching and for the mask losses; candidates drawn for each point
    # of the loss; share of its points that are the most uncertain candidates (the others are random).
    node.TRAIN_NUM_POINTS = 112 * 112
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75

    # Transformer decoder.
    node.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    # Features that the decoder attends to: a backbone feature, "transformer_encoder", "pixel_embedding", or
    # "multi_scale_pixel_decoder" (Mask2Former).
    node.TRANSFORMER_IN_FEATURE = "res5"
    # Channels of queries and attention, attention heads, channels of the feed-forward layers.
    node.HIDDEN_DIM = 256
    node.NHEADS = 8
    node.DIM_FEEDFORWARD = 2048
    node.DROPOUT = 0.1
    node.PRE_NORM = False
    # ENC_LAYERS: encoder layers before the decoder (MaskFormer v1). DEC_LAYERS: predictions of the decoder. MaskFormer
    # makes one after each layer; Mask2Former also makes one from the learnt queries, so 10 means nine layers.
    node.ENC_LAYERS = 0
    node.DEC_LAYERS = 6
    # Not read by PerPixelBaselinePlusHead, whose queries are the classes.
    node.NUM_OBJECT_QUERIES = 100
    # LocatedQueryDecoder, LocatedkMaXDecoder: queries that start from places in the image, in addition. The loss term
    # PlaceLoss teaches the places, with this weight.
    node.NUM_LOCATED_QUERIES = 0
    node.PLACE_WEIGHT = 2.0
    # Project the input by a 1x1 convolution even if it has HIDDEN_DIM channels.
    node.ENFORCE_INPUT_PROJ = False

    # The model pads images to a multiple of this, in pixels; 0 or less: the backbone's own multiple.
    node.SIZE_DIVISIBILITY = 32

    node.TEST = CN()
    # Results of inference.
    node.TEST.SEMANTIC_ON = True
    node.TEST.INSTANCE_ON = False
    node.TEST.PANOPTIC_ON = False
    # Panoptic: a query is kept if its score is above the first; a segment if the query wins at least this share (the
    # second) of the pixels of its mask.
    node.TEST.OBJECT_MASK_THRESHOLD = 0.0
    node.TEST.OVERLAP_THRESHOLD = 0.0
    # Registered rule that merges masks into a panoptic map.
    node.TEST.PANOPTIC_RULE = "PanopticMerger"
    # Resize masks to the image before the semantic sum over queries instead of after it. Panoptic and instance results
    # imply this.
    node.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = False
    # Semantic results alone: see images in square windows of this side, in pixels of the resized image, at this
    # distance, and average their scores. WINDOW 0: the whole image at once. WINDOW_STRIDE 0: as few windows as cover
    # it, spread evenly, as EoMT's authors do along the longer side after resizing the shorter one to the window's.
    node.TEST.WINDOW = 0
    node.TEST.WINDOW_STRIDE = 0
    # Clips. By a decoder of clips: joint, all frames at once; windows, those of a window at once, and tracks are joined
    # on the frames that windows share. Frame by frame, by any model of images: minvis, in which each query is linked to
    # one of the next frame (arXiv 2208.02245); tracker, in which objects begin and end.
    node.TEST.CLIP = "joint"
    # Tracks of a clip that are returned, the most probable ones.
    node.TEST.TRACKS = 10
    node.TEST.LINK = CN()
    # Frames that go through the network at a time; windows: those of a window, of which SHARED are of the one before.
    node.TEST.LINK.FRAMES = 1
    node.TEST.LINK.SHARED = 1
    # Share of the overlap of masks in what links queries; the rest is the cosine similarity of embeddings. For objects
    # that look alike and move little, 0.8 with a SIMILARITY of 0.6. Films (demo.py) take these keys too, but START.
    node.TEST.LINK.OVERLAP = 0.0
    # tracker, windows: the probability from which a query begins a track, half of which goes on with one. tracker: the
    # least evidence that links; and the frames for which an object that is not seen is remembered.
    node.TEST.LINK.START = 0.5
    node.TEST.LINK.SIMILARITY = 0.5
    node.TEST.LINK.MEMORY = 150
    # tracker, windows: a query whose mask and that of a more probable one have a greater IoU takes no part. 1: all do.
    node.TEST.LINK.DUPLICATES = 1.0


def add_backbone_keys(cfg: CN) -> None:
    # Parts whose layers recompute activations in the backward pass to save memory, among backbone (ResNet, Swin),
    # pixel_decoder and transformer_decoder. Losses and gradients stay the same.
    cfg.MODEL.CHECKPOINT = []

    # The ResNets are Detectron2's; only their DeepLab variant reads these two keys.
    cfg.MODEL.RESNETS.RES4_DILATION = 1
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]
    # Stem of the DeepLab variant: "basic", Detectron2's; or "deeplab", three 3x3 convolutions.
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"

    swin = cfg.MODEL.SWIN = CN()
    swin.PRETRAIN_IMG_SIZE = 224  # pixels; size of the absolute position embedding, where there is one
    swin.PATCH_SIZE = 4  # pixels
    swin.EMBED_DIM = 96  # channels of the first stage; each later stage doubles them
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

    # MODEL.BACKBONE.NAME: PlainViT. Its features are named by block, counted from 0: block7.
    vit = cfg.MODEL.VIT = CN()
    vit.IMAGE_SIZE = 640  # pixels; side of the square whose grid the position table is for; others resize it
    vit.PATCH_SIZE = 16  # pixels
    vit.EMBED_DIM = 768  # channels
    vit.DEPTH = 12  # blocks
    vit.NUM_HEADS = 12
    vit.MLP_RATIO = 4.0  # hidden channels of the feed-forward networks, relative to EMBED_DIM
    vit.GATED = False  # SwiGLU in the feed-forward networks
    vit.CLASS_TOKEN = True
    vit.NUM_REGISTERS = 4
    vit.POSITIONS = "table"  # learnt for each patch, or "rotary" (DINOv3)
    vit.KEY_BIAS = True  # DINOv3's projection of keys has no bias
    vit.LAYER_SCALE = 1e-5  # initial factor of each branch; 0: no such factors
    vit.FINAL_NORM = True  # a norm after the last block
    vit.DROP_PATH_RATE = 0.0  # stochastic depth of the last block, to which the others rise
    vit.DROP_PATH_ON = "both"  # branches, or "mlp" alone
    vit.OUT_BLOCKS = []  # blocks whose patches are features
    # Block i of n learns at the backbone's rate times this to the power of n - 1 - i.
    vit.LAYER_DECAY = 1.0
    vit.FULL_RATE_BLOCKS = 0  # so many of the last blocks learn at the backbone's whole rate all the same
    # Block in which patches of even rows and columns alone are left, so that the rest costs a quarter; -1: none.
    vit.SHRINK_BLOCK = -1

    # SegViT: layers of each of its decoders, those that attend to masks and those of the query up-sampling.
    cfg.MODEL.SEGVIT = CN()
    cfg.MODEL.SEGVIT.LAYERS = 3

    # MODEL.META_ARCHITECTURE: EoMT. Queries join the tokens before the last NUM_BLOCKS blocks of the ViT.
    eomt = cfg.MODEL.EOMT = CN()
    eomt.NUM_BLOCKS = 4
    # For each of these blocks, the iterations between which its attention masks are annealed away; none: never.
    eomt.ANNEAL_START = []
    eomt.ANNEAL_END = []

    # MODEL.BACKBONE.NAME: TimmBackbone. Its features are named by stride: 4, 8, 16, 32 are res2, res3, res4, res5.
    # MODEL.PIXEL_MEAN and PIXEL_STD normalise images here too; a few models of timm need other values.
    node = cfg.MODEL.TIMM = CN()
    node.NAME = "convnext_tiny"  # any model of timm with a feature pyramid; "convnext_tiny.fb_in22k" names weights too
    node.PRETRAINED = True  # let timm load the weights of that name, unless MODEL.WEIGHTS names some
    node.OUT_INDICES = []  # indices of timm's levels; empty: those of strides 4 to 32
    node.FREEZE_NORM = False  # freeze batch normalisation, as in Detectron2's ResNets
    node.ARGUMENTS = CN(new_allowed=True)  # further arguments of timm.create_model, such as drop_path_rate: 0.2


def add_guided_keys(cfg: CN) -> None:
    # A mask that comes with an image ("mask" of the batched input) says which objects are meant: a few convolutions
    # over it are added to the backbone's features. Training draws coarse masks from the truth (docs/guided.md).
    node = cfg.MODEL.MASK_ENCODER = CN()
    node.ENABLED = False
    node.CHANNELS = 64
    # Coarse masks that training draws, all equally often: box, dilated, eroded, shifted, click (a disc).
    node.KINDS = ["box", "dilated", "eroded", "shifted", "click"]
    # Share of the training images that come without a mask, for which all objects are wanted.
    node.NONE = 0.5
    # Most objects that are marked in a training image; one is marked in half of them.
    node.MOST_OBJECTS = 3

    # A trained model, the teacher, takes part in the training of this one: its backbone's features (projected to its
    # channels), class distributions and masks are learnt beside the truth. It is frozen and in no checkpoint.
    node = cfg.MODEL.DISTILLATION = CN()
    node.ENABLED = False
    node.TEACHER_CONFIG = ""  # its configuration file, or config.yaml in its output folder
    node.TEACHER_WEIGHTS = ""  # as MODEL.WEIGHTS
    # Begin with the teacher's weights outside of the backbone, as far as their names and shapes are the student's.
    node.INHERIT = False
    # Weights of the parts; 0 leaves one out.
    node.FEATURES = 1.0
    node.CLASSES = 2.0
    node.MASKS = 5.0
    node.TEMPERATURE = 2.0  # softens the class distributions; their loss is multiplied by its square
