"""Defines the layers of convolutions."""

from __future__ import annotations

from mpsim import checks, ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.nn.module import Module
from mpsim.nn.parameters import at_least_one, filled
from mpsim.ops.windows import PADDING_MODES, Pair, Window, pair


class Convolution(Module):
    """A layer with ``weight`` and ``bias``, which start as zeros."""

    weight: Parameter
    bias: Parameter | None


class Conv2d(Convolution):
    """Applies ops.conv2d.

    ``weight`` (out_channels, in_channels/groups, R, S) and ``bias`` (out_channels,) start as zeros.

    Args:
        in_channels, out_channels: The numbers of channels.
        kernel_size, stride: One number, or one for each of (height, width).
        padding: Likewise, or "valid" for none, or "same" for outputs of the input's size, which needs a stride of 1.
            If "same" needs an odd number of elements, one more is added after the image than before.
        groups: The number of groups of channels that are convolved separately.
        bias: Whether there is a bias.
        dilation: The distance between elements of the kernel, one number or (vertical, horizontal).
        padding_mode: As in ops.pad. Modes other than "zeros", and different padding on both sides, are a separate op
            "<path>.pad".

    Raises:
        ValueError: A number is out of range, or the channels cannot be divided into ``groups``.

    >>> Conv2d(1, 4, 3).weight.shape
    (4, 1, 3, 3)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        padding_mode: str = "zeros",
    ) -> None:
        kernel = pair(kernel_size, "kernel_size", 1)
        self.stride, self.groups, self.dilation = pair(stride, "stride", 1), groups, pair(dilation, "dilation", 1)
        self.padding_mode = checks.named("padding_mode", padding_mode, PADDING_MODES)
        self.widths = window_padding(padding, kernel, self.stride, self.dilation)
        even = all(before == after for before, after in self.widths)
        self.padding: Window = (self.widths[0][0], self.widths[1][0]) if even and padding_mode == "zeros" else (0, 0)
        inputs, outputs = _channels(in_channels, out_channels, groups)
        self.weight = filled(0, outputs, inputs // groups, *kernel)
        self.bias = filled(0, outputs) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        if any(map(any, self.widths)) and self.padding == (0, 0):
            x = ops.pad(x, self.widths, self.padding_mode, name=f"{self.path}.pad" if self.path else None)
        geometry = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return ops.conv2d(x, self.weight, self.bias, **geometry, groups=self.groups, name=self.path)


class Conv1d(Convolution):
    """Applies ops.conv1d. The arguments are those of Conv2d with one number each, and zeros as padding.

    >>> Conv1d(2, 4, 3).weight.shape
    (4, 2, 3)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int = 1,
    ) -> None:
        (_, self.stride), (_, self.padding) = pair((1, stride), "stride", 1), pair((0, padding), "padding")
        (_, self.dilation), self.groups = pair((1, dilation), "dilation", 1), groups
        size = at_least_one("kernel_size", kernel_size)
        inputs, outputs = _channels(in_channels, out_channels, groups)
        self.weight = filled(0, outputs, inputs // groups, size)
        self.bias = filled(0, outputs) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        geometry = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return ops.conv1d(x, self.weight, self.bias, **geometry, groups=self.groups, name=self.path)


class ConvTranspose2d(Convolution):
    """Applies ops.conv_transpose2d. ``weight`` is (in_channels, out_channels/groups, R, S).

    >>> ConvTranspose2d(2, 4, 3).weight.shape
    (2, 4, 3, 3)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
    ) -> None:
        self.stride, self.padding = pair(stride, "stride", 1), pair(padding, "padding")
        self.output_padding, self.dilation = pair(output_padding, "output_padding"), pair(dilation, "dilation", 1)
        self.groups, kernel = groups, pair(kernel_size, "kernel_size", 1)
        inputs, outputs = _channels(in_channels, out_channels, groups)
        self.weight = filled(0, inputs, outputs // groups, *kernel)
        self.bias = filled(0, outputs) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv_transpose2d(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding, output_padding=self.output_padding,
            groups=self.groups, dilation=self.dilation, name=self.path,
        )  # fmt: skip


def _channels(in_channels: int, out_channels: int, groups: int) -> tuple[int, int]:
    """Returns the numbers of channels after checking that they can be divided into the groups."""
    inputs, outputs = at_least_one("in_channels", in_channels), at_least_one("out_channels", out_channels)
    if inputs % at_least_one("groups", groups) or outputs % groups:
        raise UsageError(f"{inputs} input and {outputs} output channels cannot be divided into {groups} groups")
    return inputs, outputs


def window_padding(padding: Pair | str, kernel: Window, stride: Window, dilation: Window) -> list[tuple[int, int]]:
    """Returns the padding (before, after) of both axes."""
    if not isinstance(padding, str):
        return [(each, each) for each in pair(padding, "padding")]
    checks.named("padding", padding, ("same", "valid"))
    if padding == "same" and stride != (1, 1):
        raise UsageError(f'padding="same" needs a stride of 1, got {stride}')
    totals = [dilation[i] * (kernel[i] - 1) if padding == "same" else 0 for i in (0, 1)]
    return [(total // 2, total - total // 2) for total in totals]
