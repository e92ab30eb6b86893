"""Is a heatmap any good? Faithfulness to the model, localization of the object, sanity checks.

A metric returns one value per input, (B,), to average and bootstrap over images.
`scorecam_jax.study` does this for several methods at once.
"""

from scorecam_jax.metrics.faithfulness import adcc as adcc
from scorecam_jax.metrics.faithfulness import average_drop as average_drop
from scorecam_jax.metrics.faithfulness import average_gain as average_gain
from scorecam_jax.metrics.faithfulness import average_increase as average_increase
from scorecam_jax.metrics.faithfulness import deletion as deletion
from scorecam_jax.metrics.faithfulness import deletion_curve as deletion_curve
from scorecam_jax.metrics.faithfulness import insertion as insertion
from scorecam_jax.metrics.faithfulness import insertion_curve as insertion_curve
from scorecam_jax.metrics.faithfulness import road as road
from scorecam_jax.metrics.imputation import impute as impute
from scorecam_jax.metrics.localization import box_iou as box_iou
from scorecam_jax.metrics.localization import box_ious as box_ious
from scorecam_jax.metrics.localization import boxes_from_heatmap as boxes_from_heatmap
from scorecam_jax.metrics.localization import energy_pointing_game as energy_pointing_game
from scorecam_jax.metrics.localization import max_box_acc as max_box_acc
from scorecam_jax.metrics.localization import pointing_game as pointing_game
from scorecam_jax.metrics.sanity import parameter_randomization as parameter_randomization
from scorecam_jax.metrics.sanity import spearman as spearman
from scorecam_jax.metrics.sanity import ssim as ssim
from scorecam_jax.steps.filters import blur as blur
