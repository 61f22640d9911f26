"""Reference models of action recognition in plain PyTorch, with the names and weights of MMAction2.

model = vidload.models.create("slowfast_r50_4x16x1", num_classes=400)
"""

from .recipe import Recipe, Training
from .recognizer import Recognizer
from .registry import create, get_recipe, list_models

__all__ = ["Recipe", "Recognizer", "Training", "create", "get_recipe", "list_models"]
