"""The weights that a step computes with in bfloat16, cast all at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas import torch_private


class Bfloat16Weights:
    """Copies of the weights of convolutions and linear layers in bfloat16, for forward and backward passes.

    Autocast casts weight by weight, and gradient by gradient: with small images a sixth of all kernels. Here two
    kernels do it. Rounding is the same, and so are the results.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = {name: part for name, part in model.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))}
        self.model = model
        self.own = {f"{name}.{what}": p for name, part in layers.items() for what, p in part.named_parameters()}
        self.copies = {name: p.detach().to(torch.bfloat16).requires_grad_() for name, p in self.own.items()}
        self.gradients = [torch.zeros_like(p) for p in self.own.values()]

    def __call__(self, images: Tensor) -> Tensor:
        """What the network answers, under autocast."""
        with torch.no_grad():
            torch_private.copy_all_(list(self.copies.values()), list(self.own.values()))
        for copy in self.copies.values():
            copy.grad = None
        answer: Tensor = functional_call(self.model, self.copies, (images,))
        return answer

    @torch.no_grad()
    def return_gradients(self) -> None:
        """Give the weights the gradients that a backward pass has left their copies."""
        found = [torch.zeros_like(copy) if copy.grad is None else copy.grad for copy in self.copies.values()]
        torch_private.copy_all_(self.gradients, found)
        for p, gradient in zip(self.own.values(), self.gradients, strict=True):
            p.grad = gradient
