"""The networks of the paper (Lee, Sharma, Aiken 2023, §5.1), a small one and transformers. ``MODELS`` lists them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mpsim import checks
from mpsim.errors import UsageError
from reference_models.gpt_tiny import GPTTiny
from reference_models.mobilenet_v2 import MobileNetV2
from reference_models.network import Network
from reference_models.resnet import ResNet18
from reference_models.shufflenet_v2 import ShuffleNetV2
from reference_models.small_cnn import SmallCNN
from reference_models.squeezenet import SqueezeNet
from reference_models.vit_tiny import ViTTiny

__all__ = [
    "MODELS", "GPTTiny", "MobileNetV2", "Network", "ResNet18", "ShuffleNetV2", "SmallCNN", "SqueezeNet", "ViTTiny",
    "build",
]  # fmt: skip

#: Networks by name. A new network is a new entry.
MODELS: dict[str, Callable[..., Network]] = {
    "small_cnn": SmallCNN,
    "squeezenet": SqueezeNet,
    "shufflenet_v2": ShuffleNetV2,
    "mobilenet_v2": MobileNetV2,
    "resnet18": ResNet18,
    "vit_tiny": ViTTiny,
    "gpt_tiny": GPTTiny,
}


def build(name: str, width: float = 1.0, classes: int = 10, seed: int | None = 0, **options: object) -> Network:
    """Builds a network with initial weights drawn from ``seed``, with the same bits on every backend.

    With seed=None the weights are zero, which suffices to trace shapes and is much faster for large networks.

    ``options`` depend on the network: ``input_shape`` and ``channels`` of small_cnn, ``input_shape`` of vit_tiny and
    gpt_tiny, ``image_size`` (32 or 224) of resnet18 and shufflenet_v2. Raises ValueError for an unknown name (with
    similar ones), width or option.

    >>> list(build("resnet18", width=0.1).parameters())[:3]
    ['conv1.weight', 'bn1.weight', 'bn1.bias']
    """
    checks.named("model", name, MODELS)
    known = [
        option for option in inspect.signature(MODELS[name]).parameters if option not in ("width", "classes", "seed")
    ]
    for option in options:
        if option not in known:
            raise UsageError(f"{name} has no option {option!r}. Known: {', '.join(known) or 'none'}")
    return MODELS[name](width, classes, seed, **options)
