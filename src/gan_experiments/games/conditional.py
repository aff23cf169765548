from gan_experiments.games.unconditional import UnconditionalGame as ConditionalGame

__all__ = ["ConditionalGame"]
