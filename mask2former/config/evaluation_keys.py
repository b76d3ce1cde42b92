"""Configuration keys of evaluation and of where its numbers go."""

from detectron2.config import CfgNode as CN


def add_evaluation_keys(cfg: CN) -> None:
    # Score instances by Boundary IoU too (arXiv 2103.16562), wherever COCO's code scores them. The keys of this section
    # are not the published system's.
    cfg.TEST.BOUNDARY_AP = False
    # Score semantic results by Boundary IoU too, wherever Detectron2's evaluator scores them. This is the score of its
    # main branch (0.6 has none), which takes boundaries of the label map and so depends on the numbering of classes.
    cfg.TEST.BOUNDARY_IOU = False
    # On panoptic data sets, compute the panoptic quality of the segments of the semantic result too.
    cfg.TEST.SEMANTIC_PQ = False
    # The score whose best weights are kept (model_best.pth) and that SOLVER.PATIENCE watches, such as "segm/AP50"; if
    # empty, the first of those that are shown: PQ, mask AP or mIoU.
    cfg.TEST.BEST_METRIC = ""
    # Compute the loss on this many validation images too at each evaluation, for curves.html; 0: none. Their records
    # need what the training reads. Each costs about a forward pass.
    cfg.TEST.LOSS_IMAGES = 0
    # Write report.html and scores.json into OUTPUT_DIR after evaluation.
    cfg.TEST.REPORT = True
    # An evaluation by --eval-only keeps what it has counted in OUTPUT_DIR/inference/partial, every so many images; 0
    # keeps nothing. RESUME (or --resume) goes on from there after an interruption, with the same weights and settings.
    cfg.TEST.KEEP_PERIOD = 500
    cfg.TEST.RESUME = False


def add_wandb_keys(cfg: CN) -> None:
    # Send the scalars of training to Weights & Biases as well. That needs its package (pip install wandb) and an
    # account, or its mode "offline" (environment variable WANDB_MODE).
    cfg.WANDB = CN()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "mask2former"
    cfg.WANDB.NAME = ""  # name of the run; empty: that of the output folder
