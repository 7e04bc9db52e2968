"""The upper bound ("Oracle"): a fresh network each step on all the data of all classes seen."""

from avcil.train.methods.contract import Method, cross_entropy_objective

UPPER_BOUND = Method(
    name="upper-bound", prepare=cross_entropy_objective, sees_everything=True, starts_fresh=True
)
