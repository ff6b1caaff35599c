"""Random weights of a sane scale: a model of any shape without its checkpoint.

They are drawn on the device, so that 70 B parameters take seconds. Matrices have a standard
deviation of 1/sqrt(fan-in), which keeps activations about as large from layer to layer; norms are
1 and biases 0. So nothing overflows, logits have a spread of about 1, and times are those of real
weights. (Zeros would run faster than real weights do: they take less power.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

SEED = 0


def fill_with_random_weights(model: nn.Module) -> Iterator[str]:
    """Draw every parameter in place, the same for every process; yields names as they are done."""
    generators: dict[torch.device, torch.Generator] = {}
    for name, parameter in model.named_parameters():
        device = parameter.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(SEED)
        if parameter.ndim == 1:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            std = parameter.shape[-1] ** -0.5
            parameter.data.normal_(0.0, std, generator=generators[device])
        yield name
