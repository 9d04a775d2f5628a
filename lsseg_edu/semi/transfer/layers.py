"""A network as a list of layers: copy the first n, hold the first n still."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.networks import UNet
from lsseg_edu.semi.self_supervision.finetune import PARTS
from lsseg_edu.train import Player, Supervised


def layers(net: nn.Module) -> list[nn.Module]:
    """All layers of a network but its head, from the image inwards and out again.

    A "layer" is what one would transfer as a whole: a level of the U-Net (five of the encoder,
    four of the decoder), or a stage of an encoder that has a list of its own in ``net.layers``.

    Raises:
        ValueError: a network that is neither.
    """
    if isinstance(net, UNet):
        return [getattr(net, name) for name in PARTS["all"]]
    if not hasattr(net, "layers"):
        raise ValueError(
            f"The layers of {type(net).__name__} have no order: use a U-Net, or give the network "
            f"a list `layers`."
        )
    return list(net.layers)


def remap_channels(kernel: Tensor, channels: int) -> Tensor:
    r"""First kernels ``(O, C, *k)`` for images of another number of channels.

    .. math:: W'_{oc} = \frac{1}{C'} \sum_{c=1}^{C} W_{oc}

    On an image whose channels are all alike both answer the same. From colour to grey
    (``channels=1``) this *is* the grey image repeated three times, at a third of the work.

    Example:
        >>> import torch
        >>> remap_channels(torch.ones(8, 3, 3, 3), 1).unique()
        tensor([3.])
    """
    if kernel.shape[1] == channels:
        return kernel
    shape = (kernel.shape[0], channels, *kernel.shape[2:])
    return kernel.sum(1, keepdim=True).expand(shape) / channels


def copy_layers(source: list[nn.Module], target: list[nn.Module]) -> None:
    """Copy weights and buffers layer by layer, the first kernel remapped to the channels there.

    Raises:
        ValueError: layers of another architecture or width.
    """
    for number, (given, mine) in enumerate(zip(source, target, strict=True)):
        state, shapes = given.state_dict(), mine.state_dict()
        if number == 0:
            state = {key: _fitted(value, shapes.get(key)) for key, value in state.items()}
        try:
            mine.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"Layer {number} of the source does not fit the target: transfer between "
                f"networks of the same architecture and width."
            ) from error


class Tuned(Supervised):
    r"""The baseline with its first ``frozen`` layers held still.

    .. math:: \hat\theta_{>n} = \arg\min_{\theta_{>n}} L_{sup}(f_{\theta_{\le n},\, \theta_{>n}})

    Frozen means all of it: weights get no gradient and no weight decay, batch statistics are
    those of the source, dropout is off. The head is always trained.

    Args:
        net: a network that :func:`layers` knows.
        frozen: how many layers, counted from the image; 0 is the baseline.
        rate: learning rate as a multiple of the budget's.

    Raises:
        ValueError: more layers than there are.
    """

    def __init__(self, net: nn.Module, frozen: int = 0, rate: float = 1.0):
        super().__init__(net)
        self.rate = rate
        self.still = layers(net)[:frozen]
        if not 0 <= frozen == len(self.still):
            raise ValueError(f"{frozen} layers cannot be frozen: there are {len(layers(net))}.")
        for layer in self.still:
            layer.requires_grad_(False)

    def players(self) -> list[Player]:
        """One player, every layer that is not frozen."""
        return [player._replace(rate=self.rate) for player in super().players()]

    def train(self, mode: bool = True) -> Tuned:
        """Training mode for all layers but the frozen ones."""
        super().train(mode)
        for layer in self.still:
            layer.eval()
        return self


def _fitted(value: Tensor, like: Tensor | None) -> Tensor:
    """``value``, remapped where only its channels differ from those of ``like``."""
    if like is None or value.ndim < 3 or value.shape == like.shape:
        return value
    return remap_channels(value, like.shape[1])
