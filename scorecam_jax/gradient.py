"""The methods that look at gradients or activations alone, in one namespace."""

from scorecam_jax.methods.controls import center as center
from scorecam_jax.methods.controls import uniform as uniform
from scorecam_jax.methods.eigen_cam import eigen_cam as eigen_cam
from scorecam_jax.methods.grad_cam import grad_cam as grad_cam
from scorecam_jax.methods.grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from scorecam_jax.methods.hires_cam import hires_cam as hires_cam
from scorecam_jax.methods.layer_cam import layer_cam as layer_cam
from scorecam_jax.methods.xgrad_cam import xgrad_cam as xgrad_cam
