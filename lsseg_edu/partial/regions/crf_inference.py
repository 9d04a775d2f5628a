"""Dense CRF inference: the network answers, and the image has the last word."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.partial.regions import PartialCrossEntropy
from lsseg_edu.semi.self_training import mean_field


class CRFInference(PartialCrossEntropy):
    """Train on scribbles; at prediction, refine the probabilities by mean-field inference.

    The other way to bring the image in: no loss, no gradient, a procedure after training. It
    mends each answer by itself and teaches the network nothing; it costs time at every
    prediction, not at training.

    Reference: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian
    Edge Potentials", NIPS 2011.
    Simplified: parameters as in :func:`.mean_field`, not tuned; the compatibility is given
    (Potts by default), not learnt.

    Args:
        net: images to logits.
        compatibility: ``(K, K)`` prices; None for Potts.
        **crf: options of :func:`.mean_field`; ``steps=0`` is the network alone.
    """

    def __init__(self, net, compatibility: Tensor | None = None, **crf):
        super().__init__(net)
        self.compatibility, self.crf = compatibility, crf

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> CRFInference:
        """On the book's U-Net; in volumes with a window of radius 3."""
        if task.train.dims == 3:
            options = {"radius": 3, **options}
        return super().for_task(task, seed, **options)

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, K, *S)``: the network's, refined."""
        probs = super().predict(images)
        return mean_field(probs, images, compatibility=self.compatibility, **self.crf)
