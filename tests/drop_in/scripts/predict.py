"""Results of one image, drawn, as Detectron2's tutorials have it: its predictor and its visualizer."""

import sys

import cv2
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.utils.visualizer import ColorMode, Visualizer

from mask2former import add_maskformer2_config

config_file, weights, picture, folder = sys.argv[1:]
cfg = get_cfg()
add_maskformer2_config(cfg)
cfg.merge_from_file(config_file)
cfg.MODEL.WEIGHTS = weights
cfg.freeze()

predictor = DefaultPredictor(cfg)
image = cv2.imread(picture)
outputs = predictor(image)
torch.save(outputs["sem_seg"], f"{folder}/sem_seg.pth")
metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
panoptic_seg, segments_info = outputs["panoptic_seg"]
for name, draw in {
    "panoptic": lambda v: v.draw_panoptic_seg(panoptic_seg.to("cpu"), segments_info),
    "instances": lambda v: v.draw_instance_predictions(outputs["instances"].to("cpu")),
    "semantic": lambda v: v.draw_sem_seg(outputs["sem_seg"].argmax(0).to("cpu")),
}.items():
    visualizer = Visualizer(image[:, :, ::-1], metadata, scale=1.2, instance_mode=ColorMode.IMAGE)
    cv2.imwrite(f"{folder}/{name}.png", draw(visualizer).get_image()[:, :, ::-1])
