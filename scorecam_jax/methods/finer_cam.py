"""Finer-CAM (Zhang et al., CVPR 2025, arXiv 2501.11309)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Explanation, run
from scorecam_jax.methods.grad_cam import _grad_cam
from scorecam_jax.steps.scores import contrast, logits


def finer_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    form: str = "weighted",
    strength: float | None = None,
    others: int = 3,
    **question: Unpack[Question],
) -> Explanation:
    """Explain by Grad-CAM what distinguishes a class from those with the nearest scores.

    The differentiated score is y_c minus `strength` times the mean of the other classes' scores:
    their mean weighted by their probabilities, which are differentiated too ("weighted"); or their
    plain mean ("mean"). With other methods, pass `score=scores.contrast(...)`.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        form: "weighted", as by the authors and pytorch-grad-cam; or "mean", as by torch-cam.
        strength: the factor of the other classes' mean. None: 1 for "weighted", .6 for "mean", the
            defaults of these packages.
        others: the number of classes with which each target is compared.
        **question: see `Question`. `score` returns the y that are contrasted, by default the
            logits; `confidence` is the contrast.

    Raises:
        ValueError: no form has that name, or there are not enough other classes.

    Source: Zhang et al. 2025 (arXiv 2501.11309), as in `FinerCAM` of pytorch-grad-cam 1.5.7 and of
    torch-cam at f44afef.
    """
    if form not in ("weighted", "mean"):
        raise ValueError(f"form is {form!r}, wanted 'weighted' or 'mean'")
    weighted = form == "weighted"
    score = contrast(
        share=(1.0 if weighted else 0.6) if strength is None else strength, weighted=weighted,
        count=others, score=question.get("score") or logits,
    )  # fmt: skip
    return run(
        finer_cam, _grad_cam, model, inputs, targets, {**question, "score": score},
        score=score, gradients=True,
    )  # fmt: skip
