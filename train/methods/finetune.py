"""Fine-tuning, the lower bound: cross-entropy over all columns on the current clips, no memory."""

from avcil.train.methods.contract import Method, cross_entropy_objective

FINETUNE = Method(name="finetune", prepare=cross_entropy_objective)
