"""Two processes on a CPU (gloo) that share the weights (FSDP2) train as two that have all of them do."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
import torch.distributed

import mask2former  # noqa: F401  (spawned processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from forked import run_forked
from small_families import FAMILIES, batch, network

from mask2former.config import load_config
from mask2former.engine.optimizer import build_optimizer
from mask2former.engine.sharding import Sharding, sharding_wanted
from mask2former.engine.trainer import Trainer

QUICKSTART = Path(__file__).parents[2] / "configs/quickstart/panoptic.yaml"
SMALL = {
    **{"MODEL.DEVICE": "cpu", "MODEL.WEIGHTS": "", "DATASETS.TRAIN": (), "DATASETS.TEST": (), "SEED": 4},
    **{"MODEL.SEM_SEG_HEAD.CONVS_DIM": 32, "MODEL.SEM_SEG_HEAD.MASK_DIM": 32, "MODEL.MASK_FORMER.HIDDEN_DIM": 32},
    **{"MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1, "MODEL.MASK_FORMER.DEC_LAYERS": 2},
    **{"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 7, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64},
    **{"MODEL.MASK_FORMER.TEST.PANOPTIC_ON": False, "MODEL.MASK_FORMER.TEST.SEMANTIC_ON": True, "TEST.EVAL_PERIOD": 2},
    **{"MODEL.BACKBONE.NAME": "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM": 8, "MODEL.SWIN.DEPTHS": (1, 1, 1, 1)},
    **{"MODEL.SWIN.NUM_HEADS": (1, 1, 2, 2), "MODEL.SWIN.WINDOW_SIZE": 4, "MODEL.SWIN.DROP_PATH_RATE": 0.1},
    **{"SOLVER.MAX_ITER": 4, "SOLVER.IMS_PER_BATCH": 4, "SOLVER.BASE_LR": 0.001, "SOLVER.WARMUP_ITERS": 0},
    "SOLVER.ADAM_EPS": 1e-4,  # or gradients of nearly 0, which depend on the order of sums, are made large
    **{"SOLVER.CHECKPOINT_PERIOD": 2, "SOLVER.CLIP_GRADIENTS.ENABLED": True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5},
    **{"SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model", "SOLVER.EMA.ENABLED": True, "SOLVER.OPTIMIZER": "ADAMW"},
}
RUNS = {
    "plain": {},
    "parts": {
        **{"SOLVER.ACCUMULATE_STEPS": 2, "SOLVER.EMA.ENABLED": False, "MODEL.CHECKPOINT": ("backbone",)},
        **{"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "bfloat16"},
    },
    "by parameter": {
        **{"SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm", "SOLVER.OPTIMIZER": "SGD", "SOLVER.AMP.ENABLED": True},
        **{"SOLVER.AMP.DTYPE": "float16"},
    },
}
WAYS = ("none", "fsdp2")
QUICK = ("plain",), ("fsdp2 to fsdp2",)  # runs, and resumed ones
SLOW = ("parts", "by parameter"), ("none to fsdp2", "fsdp2 to none")
NAMES = [*QUICK[0], *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW[0])]


class FixedTrainer(Trainer):
    """Each process sees two images of its own, which depend on its rank alone."""

    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat([image(2 * torch.distributed.get_rank() + place) for place in range(2)])

    @classmethod
    def test(cls, cfg, model, evaluators=None, **_):
        """Score images of different numbers and sizes, so that processes which wait for each other would hang."""
        rank = torch.distributed.get_rank()
        model.eval()
        with torch.no_grad():
            results = [
                model([{"image": image(n)["image"][:, : 64 - 16 * rank]}])[0]["sem_seg"] for n in range(3 - rank)
            ]
        model.train()
        return {"sem_seg": {"mIoU": float(sum(one.sum() for one in results))}}


def image(number):
    pixels = torch.arange(3 * 64 * 64).remainder(197 + number).view(3, 64, 64).to(torch.uint8)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    for n in range(2):
        masks[n, 16 * n : 16 * n + 20, 8 * number :] = True
    return {"image": pixels, "instances": Instances((64, 64), gt_masks=BitMasks(masks), gt_classes=torch.arange(2))}


def configuration(folder, **keys):
    given = {**SMALL, **keys, "OUTPUT_DIR": str(folder)}
    return load_config(str(QUICKSTART), list(map(str, itertools.chain(*given.items()))))


def train(folder, resume=False, **keys):
    torch.manual_seed(5 + torch.distributed.get_rank())  # the first process's weights are where all begin
    trainer = FixedTrainer(configuration(folder, **keys))
    if keys.get("SOLVER.AMP.DTYPE") == "float16":  # all of so few steps would overflow at PyTorch's first scale
        trainer._trainer.grad_scaler.load_state_dict({**trainer._trainer.grad_scaler.state_dict(), "scale": 1024.0})
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def step_all_families(rank, meeting):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for name, family in FAMILIES.items():
        model = network(family).train()
        sharding = Sharding(model, averaged=False)
        optimizer = build_optimizer(family.configuration(), model)
        for iteration in range(2):
            with EventStorage(iteration):
                sum(model(batch()).values()).backward()
            optimizer.step()
            optimizer.zero_grad()
        sharding.gather(model)
        assert all(parameter.isfinite().all() for parameter in sharding.whole.parameters()), name
    torch.distributed.destroy_process_group()


def worker(rank, folder, plain, names, changes):
    torch.set_num_threads(1)
    folder, plain = Path(folder), Path(plain)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    sizes = {}
    for name, sharding in itertools.product(names, WAYS):
        keys = RUNS[name]
        trainer = train(folder / name / sharding, **keys, **{"SOLVER.SHARDING": sharding})
        parameters = [getattr(one, "to_local", lambda one=one: one)() for one in trainer.model.parameters()]
        moments = [value for state in trainer.optimizer.state.values() for value in state.values()]
        moments = [getattr(one, "to_local", lambda one=one: one)() for one in moments if one.dim()]
        sizes[f"{name} {sharding}"] = [sum(one.numel() for one in tensors) for tensors in (parameters, moments)]
    for change in changes:
        before, after = change.split(" to ")
        again = folder / change
        if rank == 0:
            again.mkdir()
            content = (plain / "plain" / before / "model_0000001.pth").read_bytes()
            (again / "model_0000001.pth").write_bytes(content)
            (again / "last_checkpoint").write_text("model_0000001.pth")
        torch.distributed.barrier()
        trainer = train(again, resume=True, **{"SOLVER.SHARDING": after})
        assert trainer.start_iter == 2
    (folder / f"sizes{rank}.json").write_text(json.dumps(sizes))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharding")
    run_forked(worker, (str(folder), str(folder), *QUICK))
    return folder


@pytest.fixture(scope="module")
def more_runs(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("more_sharding")
    run_forked(worker, (str(folder), str(runs), *SLOW))
    return folder


@pytest.fixture
def folder_of(request):
    return lambda name: request.getfixturevalue("runs" if name in QUICK[0] else "more_runs")


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def numbers(folder):
    """Losses, norms and scores by iteration, without times."""
    return [
        {name: value for name, value in row.items() if name.startswith(("loss", "total", "grad", "sem_seg"))}
        for row in rows(folder)
    ]


def load(file):
    return torch.load(file, weights_only=True, map_location="cpu")


def leaves(tree, name=""):
    """Yield (name, tensor) of all tensors of a checkpoint."""
    if isinstance(tree, torch.Tensor):
        yield name, tree
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from leaves(value, f"{name}/{key}")


def assert_same(one, other, **tolerance):
    one, other = dict(leaves(load(one))), dict(leaves(load(other)))
    assert one.keys() == other.keys() and len(one) > 100
    for name, value in one.items():
        assert type(other[name]) is torch.Tensor
        torch.testing.assert_close(other[name], value, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_losses_scores_and_files_are_those_of_whole_weights(folder_of, name):
    """Sums over two processes are the same in any order, those over all parameters are not."""
    one, other = (folder_of(name) / name / way for way in WAYS)
    found, expected = numbers(other), numbers(one)
    assert len(expected) > 1 and "sem_seg/mIoU" in {key for row in expected for key in row}
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, right in zip(found, expected, strict=True):
        torch.testing.assert_close(row, right, rtol=1e-4, atol=1e-5)
    assert {file.name for file in one.glob("*.pth")} == {file.name for file in other.glob("*.pth")}
    for file in ("model_0000001.pth", "model_0000003.pth", "model_final.pth", "model_best.pth"):
        assert_same(one / file, other / file, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_each_process_holds_half(folder_of, name):
    halves = [json.loads((folder_of(name) / f"sizes{rank}.json").read_text()) for rank in range(2)]
    for whole, *parts in zip(halves[0][f"{name} none"], *(half[f"{name} fsdp2"] for half in halves), strict=True):
        assert sum(parts) == whole > 0
        assert max(parts) < 0.6 * whole


@pytest.mark.slow
def test_every_family_steps(tmp_path):
    """A part of a layer that something else calls would find its weights freed."""
    run_forked(step_all_families, (str(tmp_path / "meeting"),))


def test_resumed_equals_uninterrupted(runs):
    assert_same(runs / "plain/fsdp2/model_0000003.pth", runs / "fsdp2 to fsdp2/model_0000003.pth", rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("change", SLOW[1])
def test_checkpoints_are_the_same_with_and_without(runs, more_runs, change):
    assert_same(runs / "plain/none/model_0000003.pth", more_runs / change / "model_0000003.pth", rtol=1e-3, atol=1e-5)


def test_what_does_not_work_is_said(tmp_path, caplog):
    cfg = configuration(tmp_path, **{"SOLVER.SHARDING": "zero3"})
    with pytest.raises(ValueError, match=r"SOLVER\.SHARDING is 'zero3'; choose one of none, fsdp2"):
        sharding_wanted(cfg)
    cfg = configuration(tmp_path, **{"SOLVER.SHARDING": "fsdp2"})
    assert not sharding_wanted(cfg)
    assert "needs several processes" in caplog.text
    cfg.MODEL.DISTILLATION.ENABLED = True
    with pytest.raises(ValueError, match="does not work with a teacher"):
        sharding_wanted(cfg)
