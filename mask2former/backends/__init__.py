"""Other engines than PyTorch for the network of a model; what comes before and after it stays the same code.

>>> from mask2former import Predictor
>>> predictor = Predictor("output/mine", backend="onnxruntime")
"""

from mask2former.backends.attach import use_backend
from mask2former.backends.engines import BACKENDS, BackendError, require_backend

__all__ = ["BACKENDS", "BackendError", "require_backend", "use_backend"]
