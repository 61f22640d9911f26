"""Reference models of action recognition in plain PyTorch, with the names and weights of MMAction2.

model = vidload.models.create("slowfast_r50_4x16x1", num_classes=400)
"""

from .recipe import Recipe, Training
from .recognizer import Recognizer
from .registry import create, get_recipe, list_models
from .weights import CheckpointError, LoadReport, load_checkpoint

__all__ = [
    "CheckpointError",
    "LoadReport",
    "Recipe",
    "Recognizer",
    "Training",
    "create",
    "get_recipe",
    "list_models",
    "load_checkpoint",
]
