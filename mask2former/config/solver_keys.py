"""Configuration keys of the optimiser and its schedule."""

from detectron2.config import CfgNode as CN


def add_solver_keys(cfg: CN) -> None:
    solver = cfg.SOLVER
    solver.OPTIMIZER = "ADAMW"  # ADAM or SGD
    solver.ADAM_EPS = 1e-8  # what ADAMW and ADAM add to the root of the second moment
    # Learning rate of the backbone relative to SOLVER.BASE_LR.
    solver.BACKBONE_MULTIPLIER = 0.1
    # Weight decay of embeddings (queries, levels); SOLVER.WEIGHT_DECAY_NORM is that of normalisation layers.
    solver.WEIGHT_DECAY_EMBED = 0.0
    # SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR": rate = base * (1 - iteration / MAX_ITER) ** power, and not below
    # base * constant ending, if that is above 0.
    solver.POLY_LR_POWER = 0.9
    solver.POLY_LR_CONSTANT_ENDING = 0.0
    # "WarmupPolyLR" with a backbone that starts later, [n, m]: its rate is 0 for n iterations, rises for m, and then
    # falls like that of the others, from the end of its own warm-up. Empty: it learns as the others do.
    solver.BACKBONE_WARMUP = []
    # Number format of mixed precision (SOLVER.AMP.ENABLED): float16, bfloat16, or auto. Auto is float16 with loss
    # scaling on a GPU, as published, bfloat16 on a CPU that computes in it, and float32 on other CPUs.
    solver.AMP.DTYPE = "auto"
    # Split the images of a step (IMS_PER_BATCH) into this many parts and accumulate their gradients. That takes the
    # memory of a part and trains like the whole, except that each part divides its losses by its own number of masks.
    solver.ACCUMULATE_STEPS = 1
    # Steps in a row whose loss or gradient is not finite, after which training ends; those before are left out and
    # change no weight. 1 ends it at the first.
    solver.MAX_BAD_STEPS = 5
    # Keep this many of the newest numbered checkpoints, from which a training goes on; 0: all, as published.
    solver.KEEP = 0
    # End the training after this many evaluations in a row without a better score; 0: never.
    solver.PATIENCE = 0
    # Average the weights exponentially over the updates, and evaluate and save the averages: average = d * average +
    # (1 - d) * weights, with d = min(DECAY, (1 + n) / (10 + n)) after n updates, so that short trainings profit too.
    solver.EMA = CN()
    solver.EMA.ENABLED = False
    solver.EMA.DECAY = 0.999
    # Spread parameters, gradients and the optimiser's state over the processes of a training, for networks that are too
    # large otherwise: fsdp2 (PyTorch's fully_shard). none: each process has all, by DistributedDataParallel.
    solver.SHARDING = "none"
