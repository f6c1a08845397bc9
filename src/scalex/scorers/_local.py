"""Models of transformers from local folders, and pictures as they take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError

__all__ = ["loaded", "pixels"]


def loaded(folder: Path, kind: str, device: str, *, tokenizer: bool = False) -> tuple[Any, Any, Any]:
    """A model, its image processor and, where it is asked for, its tokenizer. Nothing is fetched.

    Args:
        kind: the class of transformers that loads the model.

    Raises:
        ScalexError: the folder is not there, or what is in it cannot be loaded.
    """
    import transformers

    if not (folder / "config.json").is_file():
        raise ScalexError(f"{folder} holds no model: it has no config.json", "Name a folder that save_pretrained wrote")
    local = {"local_files_only": True}
    try:
        model = getattr(transformers, kind).from_pretrained(folder, **local).to(device).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
        words = transformers.AutoTokenizer.from_pretrained(folder, **local) if tokenizer else None
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ScalexError(f"{folder} cannot be loaded: {first}", "Save model and processor there again") from error
    return model, processor, words


def pixels(processor: Any, pictures: UInt8[np.ndarray, "n height width 3"], model: Any) -> Float[torch.Tensor, "..."]:
    """Pictures as a model's own processor makes them, on its device."""
    made = processor(images=list(pictures), return_tensors="pt", input_data_format="channels_last")
    return made["pixel_values"].to(model.device, model.dtype)
