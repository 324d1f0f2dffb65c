"""Convolutions whose gradient is cheaper on small maps, which is where most of a ResNet lies at few pixels."""

from torch import Tensor, nn

# Output maps up to 2 by 2, which a ResNet has in its last stage up to 64 pixels. Measured with AVX2 and with AVX-512:
# beyond that the copies cost more than they save.
FEW_PIXELS = 4


class SmallMapConv2d(nn.Conv2d):
    """A convolution whose result is the same, up to rounding, and whose gradient is cheaper on small maps.

    For them oneDNN computes the gradient of the weights image by image, which took a third of a ResNet-18's step at 32
    pixels. Unfolding the input makes it one product for the whole batch. Where images and weights have the channels
    last, what is unfolded is copied in rows of all channels, and the weights not at all.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (n, c, h, w)."""
        down, across = map(int, self.padding)
        (rows, columns), (step, stride) = self.kernel_size, self.stride
        height, width = (
            (input.shape[2] + 2 * down - rows) // step + 1,
            (input.shape[3] + 2 * across - columns) // stride + 1,
        )
        if height * width > FEW_PIXELS:
            return super().forward(input)
        padded = nn.functional.pad(input, (across, across, down, down))
        windows = padded.unfold(2, rows, step).unfold(3, columns, stride).permute(0, 2, 3, 4, 5, 1)
        product = windows.reshape(len(input) * height * width, -1) @ self.weight.permute(0, 2, 3, 1).flatten(1).T
        return product.view(len(input), height, width, -1).permute(0, 3, 1, 2)


def use_small_maps(model: nn.Module) -> None:
    """Let the plain convolutions of a model take the faster way; its parameters and their names stay.

    Only those without bias, groups and dilation, which is all that a ResNet has.
    """
    for module in model.modules():
        if (
            type(module) is nn.Conv2d
            and module.bias is None
            and module.groups == 1
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.__class__ = SmallMapConv2d
