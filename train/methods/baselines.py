"""The lower and the upper bound: cross-entropy over all columns, without a memory or with all there is."""

from avcil.train.methods.method import Method, cross_entropy_objective

FINETUNE = Method(name="finetune", title="fine-tuning", prepare=cross_entropy_objective)
UPPER_BOUND = Method(  # the published "Oracle": a fresh network each step on the clips of all classes seen
    name="upper-bound",
    title="upper bound",
    prepare=cross_entropy_objective,
    sees_everything=True,
    starts_fresh=True,
)
