"""Gradient-descent methods for JAX that drop into optax.

Each method is a pure ``(init, update)`` pair over trees, to be used like optax's own:

>>> import gdfx, jax.numpy as jnp, optax
>>> tx = optax.chain(optax.clip_by_global_norm(1.0), gdfx.adam(1e-3))
>>> params = {"w": jnp.ones(3)}
>>> state = tx.init(params)
>>> updates, state = tx.update({"w": jnp.ones(3)}, state, params)
>>> optax.apply_updates(params, updates)["w"]
Array([0.999, 0.999, 0.999], dtype=float32)
"""

from gdfx import port as port
from gdfx.catalog import METHODS as METHODS
from gdfx.core.averages import eval_params as eval_params
from gdfx.core.axes import MatrixAxes as MatrixAxes
from gdfx.core.descend import descend as descend
from gdfx.core.layouts import layout as layout
from gdfx.core.lift import per_leaf as per_leaf
from gdfx.core.matrix import per_matrix as per_matrix
from gdfx.core.table import matrix_table as matrix_table
from gdfx.dialects import keras as keras
from gdfx.dialects import textbook as textbook
from gdfx.dialects import torch as torch
from gdfx.methods.coordinate.acprop import acprop as acprop
from gdfx.methods.coordinate.acprop import scale_by_acprop as scale_by_acprop
from gdfx.methods.coordinate.adabelief import adabelief as adabelief
from gdfx.methods.coordinate.adabelief import scale_by_belief as scale_by_belief
from gdfx.methods.coordinate.adadelta import adadelta as adadelta
from gdfx.methods.coordinate.adadelta import scale_by_adadelta as scale_by_adadelta
from gdfx.methods.coordinate.adagrad import adagrad as adagrad
from gdfx.methods.coordinate.adagrad import scale_by_adagrad as scale_by_adagrad
from gdfx.methods.coordinate.adam import adam as adam
from gdfx.methods.coordinate.adam import adamw as adamw
from gdfx.methods.coordinate.adam import scale_by_adam as scale_by_adam
from gdfx.methods.coordinate.adamax import adamax as adamax
from gdfx.methods.coordinate.adamax import adamaxw as adamaxw
from gdfx.methods.coordinate.adamax import scale_by_adamax as scale_by_adamax
from gdfx.methods.coordinate.adan import adan as adan
from gdfx.methods.coordinate.adan import scale_by_adan as scale_by_adan
from gdfx.methods.coordinate.ademamix import ademamix as ademamix
from gdfx.methods.coordinate.ademamix import scale_by_ademamix as scale_by_ademamix
from gdfx.methods.coordinate.adopt import adopt as adopt
from gdfx.methods.coordinate.adopt import scale_by_adopt as scale_by_adopt
from gdfx.methods.coordinate.amsgrad import amsgrad as amsgrad
from gdfx.methods.coordinate.amsgrad import scale_by_amsgrad as scale_by_amsgrad
from gdfx.methods.coordinate.cocob import cocob as cocob
from gdfx.methods.coordinate.grams import grams as grams
from gdfx.methods.coordinate.grams import scale_by_grams as scale_by_grams
from gdfx.methods.coordinate.laprop import laprop as laprop
from gdfx.methods.coordinate.laprop import scale_by_laprop as scale_by_laprop
from gdfx.methods.coordinate.lion import lion as lion
from gdfx.methods.coordinate.lion import scale_by_lion as scale_by_lion
from gdfx.methods.coordinate.madgrad import madgrad as madgrad
from gdfx.methods.coordinate.momentum import momentum as momentum
from gdfx.methods.coordinate.momentum import scale_by_momentum as scale_by_momentum
from gdfx.methods.coordinate.nadam import nadam as nadam
from gdfx.methods.coordinate.nadam import nadamw as nadamw
from gdfx.methods.coordinate.noisy_sgd import noisy_sgd as noisy_sgd
from gdfx.methods.coordinate.noisy_sgd import scale_by_noise as scale_by_noise
from gdfx.methods.coordinate.optimistic import optimistic_adam as optimistic_adam
from gdfx.methods.coordinate.optimistic import (
    optimistic_gradient_descent as optimistic_gradient_descent,
)
from gdfx.methods.coordinate.optimistic import (
    scale_by_optimistic_gradient as scale_by_optimistic_gradient,
)
from gdfx.methods.coordinate.radam import radam as radam
from gdfx.methods.coordinate.radam import scale_by_radam as scale_by_radam
from gdfx.methods.coordinate.rmsprop import rmsprop as rmsprop
from gdfx.methods.coordinate.rmsprop import scale_by_rms as scale_by_rms
from gdfx.methods.coordinate.rmsprop import scale_by_stddev as scale_by_stddev
from gdfx.methods.coordinate.rprop import rprop as rprop
from gdfx.methods.coordinate.rprop import scale_by_rprop as scale_by_rprop
from gdfx.methods.coordinate.schedule_free import schedule_free_adamw as schedule_free_adamw
from gdfx.methods.coordinate.schedule_free import schedule_free_radam as schedule_free_radam
from gdfx.methods.coordinate.schedule_free import schedule_free_sgd as schedule_free_sgd
from gdfx.methods.coordinate.sgd import sgd as sgd
from gdfx.methods.coordinate.sign import scale_by_sign as scale_by_sign
from gdfx.methods.coordinate.sign import sign_sgd as sign_sgd
from gdfx.methods.coordinate.sign import signum as signum
from gdfx.methods.coordinate.simplified_ademamix import (
    scale_by_simplified_ademamix as scale_by_simplified_ademamix,
)
from gdfx.methods.coordinate.simplified_ademamix import simplified_ademamix as simplified_ademamix
from gdfx.methods.coordinate.sophia import scale_by_sophia as scale_by_sophia
from gdfx.methods.coordinate.sophia import sophia as sophia
from gdfx.methods.coordinate.sophia import update_hessian as update_hessian
from gdfx.methods.coordinate.yogi import scale_by_yogi as scale_by_yogi
from gdfx.methods.coordinate.yogi import yogi as yogi
from gdfx.methods.layer.adafactor import adafactor as adafactor
from gdfx.methods.layer.came import came as came
from gdfx.methods.layer.came import scale_by_came as scale_by_came
from gdfx.methods.layer.factored_rms import scale_by_factored_rms as scale_by_factored_rms
from gdfx.methods.layer.mars import mars as mars
from gdfx.methods.layer.mars import mars_lion as mars_lion
from gdfx.methods.layer.mars import scale_by_mars as scale_by_mars
from gdfx.methods.layer.novograd import novograd as novograd
from gdfx.methods.layer.novograd import scale_by_novograd as scale_by_novograd
from gdfx.methods.layer.sm3 import scale_by_sm3 as scale_by_sm3
from gdfx.methods.layer.sm3 import sm3 as sm3
from gdfx.methods.layer.stable_adamw import scale_by_stable_adamw as scale_by_stable_adamw
from gdfx.methods.layer.stable_adamw import stable_adamw as stable_adamw
from gdfx.methods.layer.trust_ratio import fromage as fromage
from gdfx.methods.layer.trust_ratio import lamb as lamb
from gdfx.methods.layer.trust_ratio import lars as lars
from gdfx.methods.layer.trust_ratio import scale_by_trust_ratio as scale_by_trust_ratio
from gdfx.methods.matrix.adam_mini import adam_mini as adam_mini
from gdfx.methods.matrix.adam_mini import scale_by_adam_mini as scale_by_adam_mini
from gdfx.methods.matrix.adamuon import adamuon as adamuon
from gdfx.methods.matrix.adamuon import scale_by_adamuon as scale_by_adamuon
from gdfx.methods.matrix.galore import galore as galore
from gdfx.methods.matrix.galore import scale_by_galore as scale_by_galore
from gdfx.methods.matrix.kron import kron as kron
from gdfx.methods.matrix.kron import scale_by_kron as scale_by_kron
from gdfx.methods.matrix.mars_shampoo import mars_shampoo as mars_shampoo
from gdfx.methods.matrix.mars_shampoo import scale_by_mars_shampoo as scale_by_mars_shampoo
from gdfx.methods.matrix.muon import muon as muon
from gdfx.methods.matrix.muon import scale_by_muon as scale_by_muon
from gdfx.methods.matrix.normuon import normuon as normuon
from gdfx.methods.matrix.normuon import scale_by_normuon as scale_by_normuon
from gdfx.methods.matrix.polargrad import polargrad as polargrad
from gdfx.methods.matrix.polargrad import scale_by_polargrad as scale_by_polargrad
from gdfx.methods.matrix.scion import scale_by_scion as scale_by_scion
from gdfx.methods.matrix.scion import scion as scion
from gdfx.methods.matrix.shampoo import scale_by_shampoo as scale_by_shampoo
from gdfx.methods.matrix.shampoo import shampoo as shampoo
from gdfx.methods.matrix.soap import scale_by_soap as scale_by_soap
from gdfx.methods.matrix.soap import soap as soap
from gdfx.methods.matrix.splus import scale_by_splus as scale_by_splus
from gdfx.methods.matrix.splus import splus as splus
from gdfx.methods.tree.dadapt import dadapt_adamw as dadapt_adamw
from gdfx.methods.tree.dadapt import dadapt_sgd as dadapt_sgd
from gdfx.methods.tree.dog import dog as dog
from gdfx.methods.tree.dog import dowg as dowg
from gdfx.methods.tree.dog import ldog as ldog
from gdfx.methods.tree.momo import momo as momo
from gdfx.methods.tree.momo import momo_adam as momo_adam
from gdfx.methods.tree.polyak import polyak_sgd as polyak_sgd
from gdfx.methods.tree.polyak import scale_by_polyak as scale_by_polyak
from gdfx.methods.tree.prodigy import prodigy as prodigy
from gdfx.onepass import one_pass as one_pass
from gdfx.wrappers.after import add_cautious_weight_decay as add_cautious_weight_decay
from gdfx.wrappers.after import cautious as cautious
from gdfx.wrappers.after import corrected_decay as corrected_decay
from gdfx.wrappers.after import floor_update as floor_update
from gdfx.wrappers.after import hyperball as hyperball
from gdfx.wrappers.after import match_rms as match_rms
from gdfx.wrappers.average import averaged as averaged
from gdfx.wrappers.before import grokfast_ema as grokfast_ema
from gdfx.wrappers.before import grokfast_ma as grokfast_ma
from gdfx.wrappers.mechanic import mechanic as mechanic
from gdfx.wrappers.nesterov import ema_nesterov as ema_nesterov
from gdfx.wrappers.quantized import dequantize_state as dequantize_state
from gdfx.wrappers.quantized import quantize_state as quantize_state
from gdfx.wrappers.quantized import quantized as quantized
from gdfx.wrappers.rounding import compensated as compensated
from gdfx.wrappers.rounding import stochastic_rounding as stochastic_rounding
from gdfx.wrappers.schedule_free import schedule_free as schedule_free
from gdfx.wrappers.sharded import shard_table as shard_table
from gdfx.wrappers.sharded import sharded as sharded
from gdfx.wrappers.sharpness import asam as asam
from gdfx.wrappers.sharpness import sam as sam
from gdfx.wrappers.skip import skip_nonfinite as skip_nonfinite
from gdfx.wrappers.watch import watch as watch
from gdfx.wrappers.watch import watched as watched

__version__ = "0.1.0"
