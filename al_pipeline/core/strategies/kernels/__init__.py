"""The computations that strategies share: distances, covers, gradients, lotteries."""
