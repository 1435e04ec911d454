"""The fused clip: takes the limit on construction and the parameters at each call; the norm has one element, as in some releases."""

import torch

made: list[float] = []


class FusedClipNorm:
    def __init__(self, parameters, max_norm):
        assert list(parameters) == []
        made.append(max_norm)
        self.max_norm = max_norm

    def clip_norm(self, parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, self.max_norm).reshape(1)
