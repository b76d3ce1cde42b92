"""Repeat what parsers and their help need of the package, which they do not import; a test compares each with it."""

DEFAULT_MODEL = "coco/panoptic/swin_tiny"
TASKS = ("panoptic", "instance", "semantic")
MODES = ("overlay", "masks", "contours", "boxes")
LABELS = "labels"  # the mode that draws numbers, not colours
INSTANCE_THRESHOLD = 0.5
MAX_PIXELS = 180_000_000  # of an image
WEIGHT_FORMATS = ("ours", "published", "hf", "timm")
EXPORTED_RESULTS = ("logits", "network", "semantic", "instance", "panoptic")
BACKENDS = ("torch", "onnxruntime", "openvino")
EXPORT_DTYPES = ("uint8", "float32")
