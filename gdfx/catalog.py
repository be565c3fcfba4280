"""METHODS: one record per method, its traits as data.

Tests, docs, `gdfx list` and `gdfx show` ask this table; none of them knows a method by name.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from gdfx.core.arguments import method_name
from gdfx.core.inner import demands
from gdfx.dialects import keras, textbook, torch
from gdfx.methods.coordinate.acprop import acprop, scale_by_acprop
from gdfx.methods.coordinate.adabelief import adabelief, scale_by_belief
from gdfx.methods.coordinate.adadelta import adadelta, scale_by_adadelta
from gdfx.methods.coordinate.adagrad import adagrad, scale_by_adagrad
from gdfx.methods.coordinate.adam import adam, adamw, scale_by_adam
from gdfx.methods.coordinate.adamax import adamax, adamaxw, scale_by_adamax
from gdfx.methods.coordinate.adan import adan, scale_by_adan
from gdfx.methods.coordinate.ademamix import ademamix, scale_by_ademamix
from gdfx.methods.coordinate.adopt import adopt, scale_by_adopt
from gdfx.methods.coordinate.amsgrad import amsgrad, scale_by_amsgrad
from gdfx.methods.coordinate.cocob import cocob
from gdfx.methods.coordinate.grams import grams, scale_by_grams
from gdfx.methods.coordinate.laprop import laprop, scale_by_laprop
from gdfx.methods.coordinate.lion import lion, scale_by_lion
from gdfx.methods.coordinate.madgrad import madgrad
from gdfx.methods.coordinate.momentum import momentum, scale_by_momentum
from gdfx.methods.coordinate.nadam import nadam, nadamw
from gdfx.methods.coordinate.noisy_sgd import noisy_sgd, scale_by_noise
from gdfx.methods.coordinate.optimistic import (
    optimistic_adam,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from gdfx.methods.coordinate.radam import radam, scale_by_radam
from gdfx.methods.coordinate.rmsprop import rmsprop, scale_by_rms, scale_by_stddev
from gdfx.methods.coordinate.rprop import rprop, scale_by_rprop
from gdfx.methods.coordinate.schedule_free import (
    schedule_free_adamw,
    schedule_free_radam,
    schedule_free_sgd,
)
from gdfx.methods.coordinate.sgd import sgd
from gdfx.methods.coordinate.sign import scale_by_sign, sign_sgd, signum
from gdfx.methods.coordinate.simplified_ademamix import (
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from gdfx.methods.coordinate.sophia import scale_by_sophia, sophia
from gdfx.methods.coordinate.yogi import scale_by_yogi, yogi
from gdfx.methods.layer.adafactor import adafactor
from gdfx.methods.layer.came import came, scale_by_came
from gdfx.methods.layer.factored_rms import scale_by_factored_rms
from gdfx.methods.layer.mars import mars, mars_lion, scale_by_mars
from gdfx.methods.layer.novograd import novograd, scale_by_novograd
from gdfx.methods.layer.sm3 import scale_by_sm3, sm3
from gdfx.methods.layer.stable_adamw import scale_by_stable_adamw, stable_adamw
from gdfx.methods.layer.trust_ratio import fromage, lamb, lars, scale_by_trust_ratio
from gdfx.methods.matrix.adam_mini import adam_mini, scale_by_adam_mini
from gdfx.methods.matrix.adamuon import adamuon, scale_by_adamuon
from gdfx.methods.matrix.galore import galore, scale_by_galore
from gdfx.methods.matrix.kron import kron, scale_by_kron
from gdfx.methods.matrix.mars_shampoo import mars_shampoo, scale_by_mars_shampoo
from gdfx.methods.matrix.muon import muon, scale_by_muon
from gdfx.methods.matrix.normuon import normuon, scale_by_normuon
from gdfx.methods.matrix.polargrad import polargrad, scale_by_polargrad
from gdfx.methods.matrix.scion import scale_by_scion, scion
from gdfx.methods.matrix.shampoo import scale_by_shampoo, shampoo
from gdfx.methods.matrix.soap import scale_by_soap, soap
from gdfx.methods.matrix.splus import scale_by_splus, splus
from gdfx.methods.tree.dadapt import dadapt_adamw, dadapt_sgd
from gdfx.methods.tree.dog import dog, dowg, ldog
from gdfx.methods.tree.momo import momo, momo_adam
from gdfx.methods.tree.polyak import polyak_sgd, scale_by_polyak
from gdfx.methods.tree.prodigy import prodigy

Factory = Callable[..., optax.GradientTransformationExtraArgs]


@dataclass(frozen=True)
class Method:
    """What is true of a method, beyond its code."""

    factory: Factory
    """Makes the ready-made optimizer from its hyperparameters; the first is the step size."""

    kind: Literal["plain", "adaptive", "sign", "layer-wise", "factored", "matrix"]
    """What its steps are like, for lists."""

    equation: str
    """What one step does, on one line."""

    source: str
    """Where the equations stand."""

    scale: Literal["linear", "invariant"] | None = None
    """How the update answers to gradients c times as large (c > 0), from the first step on:
    ``linear``: c times as large; ``invariant``: the same, as ε and the start value go to 0; None:
    otherwise."""

    direction: Factory | None = None
    """Makes u alone, without learning rate and weight decay; None where there is no such part."""

    directions: tuple[Factory, ...] = ()
    """Further directions, which an argument chooses."""

    matches: str | None = None
    """The optax optimizer that it equals up to rounding, given the same positional arguments."""

    beside: str | None = None
    """Where it equals none: the optimizer of the same name elsewhere, that does the same work."""

    to_float64: bool = True
    """Whether it equals that to the digits of float64; False: optax computes in float32 there."""

    form: str | None = None
    """In a dialect: the name of the method that it is a form of."""

    odd: bool = True
    """Whether u(−g) = −u(g), weight decay apart."""

    descends: bool = True
    """Whether its first step goes down the gradient; False: it may stand still at first."""

    translates: bool = True
    """Whether the update is the same for parameters shifted by a constant."""

    complex: bool = True
    """Whether complex parameters are treated as pairs of real ones, with |g|² for g²."""

    reach: Literal["coordinate", "layer", "tree", "matrix"] = "coordinate"
    """On what a coordinate's update depends: on its own gradients and parameter, on those of its
    whole array or of the whole tree, or on those of its matrix, as outputs and inputs."""

    asks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What must be said of the parameters, as it is said where nothing is known of them."""

    transposes: bool = True
    """Whether a transposed matrix moves as the matrix does, transposed; not where rows are treated
    otherwise than columns."""

    follows: Literal["permutations", "rotations"] | None = None
    """Which changes of basis, of a matrix's inputs and outputs, its update follows: orders of rows
    and columns, or all rotations."""

    rounding: float | None = None
    """How many times larger rounding comes out than it went in: the polynomials of Newton-Schulz
    lift small singular values, and errors with them; a difference of large sums is small, and its
    errors are not. None: about as large."""

    random: bool = False
    """Whether its updates have noise, from a key that it holds."""

    after_nan: Literal["nan", "frozen", "recovers"] = "nan"
    """What a coordinate does after one NaN gradient: it is NaN, or stands still, for ever; or it
    moves on."""

    @property
    def name(self) -> str:
        """The name under `gdfx`: ``adam``, ``textbook.adam``."""
        return method_name(self.factory)

    @property
    def dialect(self) -> str:
        """Whose form it is: ``textbook``, ``torch``, ``keras``; gdfx's own has none."""
        return self.name.rpartition(".")[0]

    @property
    def maker(self) -> Factory:
        """The factory; where it asks about the parameters, every leaf of two axes is a matrix."""
        return functools.partial(self.factory, **self.asks) if self.asks else self.factory

    @property
    def elementwise(self) -> bool:
        """Whether a coordinate's update depends on its own gradients and parameter alone."""
        return self.reach == "coordinate"

    @property
    def state_bytes(self) -> float:
        """How many bytes its state takes for each number of a large float32 matrix.

        Counters, keys and the like are left out.
        """
        n = 1024
        matrix = jax.ShapeDtypeStruct((n, n), jnp.float32)
        state = jax.eval_shape(self.maker(0.1).init, matrix)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.size >= n) / n**2

    @property
    def needs_params(self) -> bool:
        """Whether ``update`` must be given the parameters."""
        return "params" in self._demands

    @property
    def needs_value(self) -> bool:
        """Whether ``update`` must be given the loss."""
        return "value" in self._demands

    @functools.cached_property
    def _demands(self) -> frozenset[str]:
        return demands(self.maker(0.1))

    def reference(self, *args: Any, **options: Any) -> optax.GradientTransformation:
        """The optimizer that it matches, of the same arguments; what that lacks is left out."""
        if self.matches is None:
            raise ValueError(f"{self.name} matches no optax optimizer")
        bound = inspect.signature(self.factory).bind(*args, **options)
        bound.apply_defaults()
        theirs = _of_optax(self.matches)
        assert theirs is not None  # else the record matches nothing
        taken = inspect.signature(theirs).parameters
        by_position = sum(p.kind == p.POSITIONAL_OR_KEYWORD for p in taken.values())
        options = {k: v for k, v in bound.kwargs.items() if k in taken}
        return theirs(*bound.args[:by_position], **options)

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


_RECORDS = (
    Method(
        sgd,
        "plain",
        equation="W ← W − η g",
        source="Robbins and Monro 1951",
        scale="linear",
        matches="optax.sgd",
        after_nan="recovers",
    ),
    Method(
        momentum,
        "plain",
        direction=scale_by_momentum,
        equation="m ← g + α m;  W ← W − η m",
        source="Polyak 1964; Sutskever et al. 2013, equations (1) to (4)",
        scale="linear",
        matches="optax.sgd",
    ),
    Method(
        adagrad,
        "adaptive",
        direction=scale_by_adagrad,
        equation="h ← h + g²;  W ← W − η g/√(h + ε)",
        source="Duchi et al. 2011, Figure 1",
        scale="invariant",
        matches="optax.adagrad",
    ),
    Method(
        adam,
        "adaptive",
        direction=scale_by_adam,
        equation="m, v: means of g, g²;  W ← W − η m̂/(√v̂ + ε)",
        source="arXiv:1412.6980, Algorithm 1",
        scale="invariant",
        matches="optax.adam",
    ),
    Method(
        adamw,
        "adaptive",
        direction=scale_by_adam,
        equation="m, v: means of g, g²;  W ← W − η (m̂/(√v̂ + ε) + λ W)",
        source="arXiv:1711.05101, Algorithm 2",
        scale="invariant",
        matches="optax.adamw",
        translates=False,
    ),
    Method(
        nadam,
        "adaptive",
        direction=scale_by_adam,
        equation="as adam, with Nesterov's momentum in m̂",
        source="Dozat 2016, Algorithm 2",
        scale="invariant",
        matches="optax.nadam",
    ),
    Method(
        nadamw,
        "adaptive",
        direction=scale_by_adam,
        equation="as adamw, with Nesterov's momentum in m̂",
        source="Dozat 2016, Algorithm 2; arXiv:1711.05101, Algorithm 2",
        scale="invariant",
        matches="optax.nadamw",
        translates=False,
    ),
    Method(
        amsgrad,
        "adaptive",
        direction=scale_by_amsgrad,
        equation="as adam, with the largest v̂ so far",
        source="arXiv:1904.09237, Algorithm 2",
        scale="invariant",
        matches="optax.amsgrad",
    ),
    Method(
        adamax,
        "adaptive",
        direction=scale_by_adamax,
        equation="m: mean of g;  v ← max(β₂ v, |g|);  W ← W − η m̂/v",
        source="arXiv:1412.6980, Algorithm 2",
        scale="invariant",
        matches="optax.adamax",
    ),
    Method(
        adamaxw,
        "adaptive",
        direction=scale_by_adamax,
        equation="as adamax, with W ← W − η (m̂/v + λ W)",
        source="arXiv:1412.6980, Algorithm 2",
        scale="invariant",
        matches="optax.adamaxw",
        translates=False,
    ),
    Method(
        adabelief,
        "adaptive",
        direction=scale_by_belief,
        equation="m, s: means of g, (g − m)²;  W ← W − η m̂/(√ŝ + ε)",
        source="arXiv:2010.07468, Algorithm 2",
        scale="invariant",
        matches="optax.adabelief",
    ),
    Method(
        yogi,
        "adaptive",
        direction=scale_by_yogi,
        equation="as adam, with v ← v − (1 − β₂) sign(v − g²) g²",
        source="Zaheer et al. 2018, Algorithm 2",
        matches="optax.yogi",
        odd=False,
        complex=False,
    ),
    Method(
        radam,
        "adaptive",
        direction=scale_by_radam,
        equation="as adam, with W ← W − η m̂ at first, and shortened until v̂ is sure",
        source="arXiv:1908.03265, Algorithm 2",
        matches="optax.radam",
    ),
    Method(
        adan,
        "adaptive",
        direction=scale_by_adan,
        equation="m, v, n: means of g, Δg, (g + β₂ Δg)²;  W ← W − η (m̂ + β₂ v̂)/(√n̂ + ε)",
        source="arXiv:2208.06677, Algorithm 1",
        scale="invariant",
    ),
    Method(
        ademamix,
        "adaptive",
        direction=scale_by_ademamix,
        equation="m₁, m₂, v: means of g, g, g²;  W ← W − η ((m̂₁ + α m₂)/(√v̂ + ε) + λ W)",
        source="arXiv:2409.03137, Algorithm 1",
        scale="invariant",
        matches="optax.contrib.ademamix",
    ),
    Method(
        simplified_ademamix,
        "adaptive",
        direction=scale_by_simplified_ademamix,
        equation="m ← β₁ m + g;  v: mean of g²;  W ← W − η ((m + α g)/(√v̂ + ε) + λ W)",
        source="arXiv:2502.02431",
        scale="invariant",
        matches="optax.contrib.simplified_ademamix",
    ),
    Method(
        adopt,
        "adaptive",
        direction=scale_by_adopt,
        equation="v: mean of g² so far;  m: mean of g/max(√v, ε);  W ← W − η m",
        source="arXiv:2411.02853, Algorithm 2",
        scale="invariant",
        matches="optax.contrib.adopt",
        descends=False,
    ),
    Method(
        laprop,
        "adaptive",
        direction=scale_by_laprop,
        equation="v: mean of g²;  m: mean of g/(√v̂ + ε);  W ← W − η (m̂ + λ W)",
        source="arXiv:2002.04839, Algorithm 1",
        scale="invariant",
    ),
    Method(
        stable_adamw,
        "adaptive",
        direction=scale_by_stable_adamw,
        equation="u as adamw's;  W ← W − η u/max(1, r),  r = √mean(g²/v̂)",
        source="arXiv:2304.13013, Algorithm 2",
        scale="invariant",
        reach="layer",
        translates=False,
    ),
    Method(
        grams,
        "adaptive",
        direction=scale_by_grams,
        equation="m, v: means of g, g²;  W ← W − η (sign(g) |m̂|/(√v̂ + ε) + λ W)",
        source="arXiv:2412.17107, Algorithm 1",
        scale="invariant",
    ),
    Method(
        mars,
        "adaptive",
        direction=scale_by_mars,
        equation="c = g + γ β₁/(1 − β₁) Δg, at most 1 long;  W as adamw's of c",
        source="arXiv:2411.10438, Algorithm 2",
        reach="layer",
    ),
    Method(
        mars_lion,
        "sign",
        direction=scale_by_mars,
        equation="c = g + γ β₁/(1 − β₁) Δg, at most 1 long;  m: mean of c;  "
        "W ← W − η (sign(m) + λ W)",
        source="arXiv:2411.10438, Algorithm 3",
        reach="layer",
    ),
    Method(
        madgrad,
        "adaptive",
        equation="s, v: sums of η√t g, η√t g²;  W ← μ W + (1 − μ)(W₀ − s/(∛v + ε))",
        source="arXiv:2101.11075, Algorithm 1",
        beside="optax.contrib.madgrad",
    ),
    Method(
        acprop,
        "adaptive",
        direction=scale_by_acprop,
        equation="W ← W − η (g/(√ŝ + ε) + λ W);  m: mean of g;  s: mean of (g − m)², of the steps "
        "before",
        source="arXiv:2110.05454, Algorithm 2",
        beside="optax.contrib.acprop",
    ),
    Method(
        cocob,
        "adaptive",
        equation="L: largest |g|;  G, R: sums of |g|, −g (W − W₀);  "
        "W ← W₀ − Σg (L + R)/(L max(G + L, α L))",
        source="arXiv:1705.07795, Algorithm 2",
        scale="invariant",
        complex=False,
        beside="optax.contrib.cocob",
    ),
    Method(
        sophia,
        "adaptive",
        direction=scale_by_sophia,
        equation="m: mean of g;  h: of the curvature;  W ← W − η (clip(m/max(γ h, ε), ±1) + λ W)",
        source="arXiv:2305.14342, Algorithm 3",
        translates=False,
    ),
    Method(
        rmsprop,
        "adaptive",
        direction=scale_by_rms,
        directions=(scale_by_stddev,),
        equation="v: mean of g²;  W ← W − η g/√(v + ε)",
        source="Tieleman and Hinton 2012; arXiv:1308.0850, equations (38) to (45)",
        scale="invariant",
        matches="optax.rmsprop",
    ),
    Method(
        adadelta,
        "adaptive",
        direction=scale_by_adadelta,
        equation="E, D: means of g², u²;  u = √(D + ε)/√(E + ε) g;  W ← W − η u",
        source="arXiv:1212.5701, Algorithm 1",
        matches="optax.adadelta",
    ),
    Method(
        optimistic_adam,
        "adaptive",
        direction=scale_by_optimistic_gradient,
        equation="u as adam's;  W ← W − η (2 u − u'), u' the last",
        source="arXiv:1711.00141, Algorithm 1",
        scale="invariant",
        matches="optax.optimistic_adam_v2",
    ),
    Method(
        optimistic_gradient_descent,
        "plain",
        direction=scale_by_optimistic_gradient,
        equation="W ← W − η (2 g − g'), g' the last",
        source="arXiv:1711.00141, equation (2)",
        scale="linear",
        matches="optax.optimistic_gradient_descent",
        after_nan="recovers",
    ),
    Method(
        noisy_sgd,
        "plain",
        direction=scale_by_noise,
        equation="W ← W − η (g + σ N(0, 1)),  σ² = η₀/tᵞ",
        source="arXiv:1511.06807, equation (1)",
        random=True,
        after_nan="recovers",
    ),
    Method(
        polyak_sgd,
        "plain",
        direction=scale_by_polyak,
        equation="W ← W − min((L − f_min)/Σg², η_max) g",
        source="arXiv:2002.10542, equation (3)",
        reach="tree",
        matches="optax.polyak_sgd",
        after_nan="recovers",
    ),
    Method(
        schedule_free_sgd,
        "plain",
        equation="z ← z − η g;  x: mean of z;  W = β x + (1 − β) z;  x is what to evaluate",
        source="arXiv:2405.15682, equations (3) to (5)",
        scale="linear",
        beside="optax.contrib.schedule_free_sgd",
    ),
    Method(
        schedule_free_adamw,
        "adaptive",
        equation="as schedule_free_sgd, with z ← z − η (g/(√v̂ + ε) + λ W),  v: mean of g²",
        source="arXiv:2405.15682, Algorithm 1",
        scale="invariant",
        beside="optax.contrib.schedule_free_adamw",
    ),
    Method(
        schedule_free_radam,
        "adaptive",
        equation="as schedule_free_adamw, with η shortened until v̂ is sure",
        source="arXiv:2405.15682, Algorithm 1; arXiv:1908.03265, Algorithm 2",
        descends=False,
    ),
    Method(
        momo,
        "plain",
        equation="m: mean of g;  W ← W − min(η, h/‖m‖²) m,  h: how far the loss's model may fall",
        source="arXiv:2305.07583, Algorithms 1 and 3",
        reach="tree",
        odd=False,
        rounding=64,
        beside="optax.contrib.momo",
    ),
    Method(
        momo_adam,
        "adaptive",
        equation="u = m/(√v̂ + ε);  W ← W − min(η/(1 − β₁ᵗ), h/⟨m, u⟩) u,  h as in momo",
        source="arXiv:2305.07583, Algorithms 2 and 4",
        reach="tree",
        odd=False,
        rounding=64,
        beside="optax.contrib.momo_adam",
    ),
    Method(
        prodigy,
        "adaptive",
        equation="W ← W − d m/(√v + d ε);  m, v: means of d g, (d g)²;  d: the largest "
        "Σ g (W₀ − W)/Σ|s| so far",
        source="arXiv:2306.06101, Algorithm 4",
        scale="invariant",
        reach="tree",
        beside="optax.contrib.prodigy",
    ),
    Method(
        dadapt_sgd,
        "plain",
        equation="s ← s + d/‖g₀‖ g;  W ← W₀ − s;  d: the largest 2 Σ g s/‖s‖ so far",
        source="arXiv:2301.07733, Algorithm 4",
        scale="invariant",
        reach="tree",
    ),
    Method(
        dadapt_adamw,
        "adaptive",
        equation="W ← W − m/(√v + ε);  m, v: means of d g, g²;  d: the largest "
        "Σ g s/(√v + ε)/Σ|s| so far",
        source="arXiv:2301.07733, Algorithm 5",
        scale="invariant",
        reach="tree",
        beside="optax.contrib.dadapt_adamw",
    ),
    Method(
        dog,
        "plain",
        equation="W ← W − r/√Σ‖g‖² g,  r: the largest ‖W − W₀‖ so far",
        source="arXiv:2302.12022, equations (1) and (2)",
        scale="invariant",
        reach="tree",
        translates=False,
        beside="optax.contrib.dog",
    ),
    Method(
        ldog,
        "layer-wise",
        equation="as dog, for each array by itself",
        source="arXiv:2302.12022, section 4",
        scale="invariant",
        reach="layer",
        translates=False,
    ),
    Method(
        dowg,
        "plain",
        equation="W ← W − r²/√Σ r²‖g‖² g,  r: the largest ‖W − W₀‖ so far",
        source="arXiv:2305.16284, Algorithm 1",
        scale="invariant",
        reach="tree",
        beside="optax.contrib.dowg",
    ),
    Method(
        sign_sgd,
        "sign",
        direction=scale_by_sign,
        equation="W ← W − η sign(g)",
        source="arXiv:1802.04434, Algorithm 1",
        scale="invariant",
        matches="optax.sign_sgd",
        after_nan="recovers",
    ),
    Method(
        signum,
        "sign",
        direction=scale_by_sign,
        equation="m: mean of g;  W ← W − η sign(m)",
        source="arXiv:1802.04434, Algorithm 2",
        scale="invariant",
        matches="optax.signum",
    ),
    Method(
        lion,
        "sign",
        direction=scale_by_lion,
        equation="W ← W − η (sign(β₁ m + (1 − β₁) g) + λ W);  m: mean of g",
        source="arXiv:2302.06675, Algorithm 2",
        scale="invariant",
        matches="optax.lion",
        translates=False,
    ),
    Method(
        rprop,
        "sign",
        direction=scale_by_rprop,
        equation="Δ longer while sign(g) stays, shorter when it turns;  W ← W − Δ sign(g)",
        source="Riedmiller and Braun 1993; Igel and Hüsken 2000, iRprop−",
        scale="invariant",
        complex=False,
        after_nan="recovers",
    ),
    Method(
        lars,
        "layer-wise",
        direction=scale_by_trust_ratio,
        equation="d = g + λ W;  m ← μ m + η c ‖W‖/‖d‖ d;  W ← W − m",
        source="arXiv:1708.03888, Algorithm 1",
        reach="layer",
        matches="optax.lars",
        translates=False,
    ),
    Method(
        lamb,
        "layer-wise",
        direction=scale_by_trust_ratio,
        equation="u as adamw's;  W ← W − η ‖W‖/‖u‖ u",
        source="arXiv:1904.00962, Algorithm 2",
        scale="invariant",
        reach="layer",
        matches="optax.lamb",
        translates=False,
    ),
    Method(
        fromage,
        "layer-wise",
        direction=scale_by_trust_ratio,
        equation="W ← (W − η ‖W‖/‖g‖ g)/√(1 + η²)",
        source="arXiv:2002.03432, Algorithm 1",
        scale="invariant",
        reach="layer",
        matches="optax.fromage",
        translates=False,
        after_nan="recovers",
    ),
    Method(
        novograd,
        "layer-wise",
        direction=scale_by_novograd,
        equation="v: mean of Σg²;  m ← β₁ m + g/(√v + ε) + λ W;  W ← W − η m",
        source="arXiv:1905.11286, Algorithm 1",
        scale="invariant",
        reach="layer",
        matches="optax.novograd",
    ),
    Method(
        adafactor,
        "factored",
        direction=scale_by_factored_rms,
        equation="R, C: means of g² along rows, columns;  W ← W − η rms(W) g/√(R Cᵀ/mean(R))",
        source="arXiv:1804.04235, Algorithms 4 and 5",
        scale="invariant",
        reach="layer",
        matches="optax.adafactor",
        to_float64=False,
        translates=False,
    ),
    Method(
        sm3,
        "factored",
        direction=scale_by_sm3,
        equation="a: a bound on Σg² from sums along axes;  W ← W − η mean(g/√(a + ε))",
        source="arXiv:1901.11150, Algorithm SM3-II",
        scale="invariant",
        reach="layer",
        matches="optax.sm3",
        complex=False,
    ),
    Method(
        came,
        "factored",
        direction=scale_by_came,
        equation="d: g/√(R Cᵀ);  m: mean of d;  W ← W − η m/√(R' C'ᵀ),  R', C': means of (d − m)²",
        source="arXiv:2307.02047, Algorithm 2",
        scale="invariant",
        reach="layer",
    ),
    Method(
        adam_mini,
        "adaptive",
        direction=scale_by_adam_mini,
        equation="m: mean of g;  v: mean of mean(g²) of each row;  W ← W − η (m̂/(√v̂ + ε) + λ W)",
        source="arXiv:2406.16793, Algorithms 1 and 2",
        scale="invariant",
        reach="matrix",
        transposes=False,
        follows="permutations",
        asks={"matrices": "2d"},
        complex=False,
    ),
    Method(
        galore,
        "factored",
        direction=scale_by_galore,
        equation="P: first singular vectors of g, now and then;  W ← W − η (s P u' + λ W),  "
        "u': Adam's of Pᵀ g",
        source="arXiv:2403.03507, Algorithm 2",
        scale="invariant",
        reach="matrix",
        transposes=False,
        follows="permutations",
        asks={"matrices": "2d"},
        complex=False,
    ),
    Method(
        muon,
        "matrix",
        direction=scale_by_muon,
        equation="m: mean of g;  W ← W − η (0.2 √max(rows, columns) U Vᵀ + λ W),  m = U Σ Vᵀ",
        source="Jordan et al. 2024; arXiv:2502.16982, Algorithm 2",
        scale="invariant",
        reach="matrix",
        follows="rotations",
        asks={"matrices": "2d"},
        complex=False,
        rounding=16,
        beside="optax.contrib.muon",
    ),
    Method(
        mars_shampoo,
        "matrix",
        direction=scale_by_mars_shampoo,
        equation="c = g + γ β₁/(1 − β₁) Δg, at most 1 long;  m: mean of c;  "
        "W ← W − η (s U Vᵀ + λ W),  m = U Σ Vᵀ",
        source="arXiv:2411.10438, Algorithm 4",
        reach="matrix",
        transposes=False,
        follows="rotations",
        asks={"matrices": "2d"},
        complex=False,
        rounding=16,
    ),
    Method(
        normuon,
        "matrix",
        direction=scale_by_normuon,
        equation="o as muon's;  v: mean of o² in each row;  W ← W − η (0.2 n/rms(n) + λ W),  "
        "n = o/√v",
        source="arXiv:2510.05491, Algorithm 1",
        scale="invariant",
        reach="matrix",
        transposes=False,
        follows="permutations",
        asks={"matrices": "2d"},
        complex=False,
        rounding=16,
    ),
    Method(
        adamuon,
        "matrix",
        direction=scale_by_adamuon,
        equation="o: U Vᵀ of sign(m);  v: mean of o²;  W ← W − η (0.2 n/rms(n) + λ W),  n = o/√v",
        source="arXiv:2507.11005, Algorithm 1",
        scale="invariant",
        reach="matrix",
        follows="permutations",
        asks={"matrices": "2d"},
        complex=False,
        rounding=16,
    ),
    Method(
        polargrad,
        "matrix",
        direction=scale_by_polargrad,
        equation="m: mean of g;  W ← W − η (Σσ U Vᵀ + λ W),  m = U Σ Vᵀ",
        source="arXiv:2505.21799; the authors' polar_grad.py",
        scale="linear",
        reach="matrix",
        follows="rotations",
        asks={"matrices": "2d"},
        complex=False,
        rounding=16,
    ),
    Method(
        scion,
        "matrix",
        direction=scale_by_scion,
        equation="m: mean of g;  W ← W − η (ρ √(rows / columns) U Vᵀ + λ W),  m = U Σ Vᵀ",
        source="arXiv:2502.07529; the authors' scion.py",
        scale="invariant",
        translates=False,
        reach="matrix",
        transposes=False,
        follows="rotations",
        asks={"matrices": "2d"},
        complex=False,
        rounding=16,
    ),
    Method(
        soap,
        "matrix",
        direction=scale_by_soap,
        equation="Q: eigenvectors of the means of g gᵀ and gᵀ g;  W ← W − η (Q_L u' Q_Rᵀ + λ W),  "
        "u': Adam's of Q_Lᵀ g Q_R",
        source="arXiv:2409.11321, Algorithm 3",
        scale="invariant",
        translates=False,
        reach="matrix",
        follows="rotations",
        asks={"matrices": "2d"},
        complex=False,
    ),
    Method(
        shampoo,
        "matrix",
        direction=scale_by_shampoo,
        equation="L, R: means of g gᵀ and gᵀ g;  W ← W − η (‖a‖ d/‖d‖ + λ W),  "
        "d = L^(−¼) m R^(−¼),  a: Adam's",
        source="arXiv:1802.09568, Algorithm 1; arXiv:2309.06497",
        scale="invariant",
        reach="matrix",
        follows="permutations",
        asks={"matrices": "2d"},
        complex=False,
    ),
    Method(
        splus,
        "matrix",
        direction=scale_by_splus,
        equation="m: mean of g;  Q as soap's;  W ← W − η s (Q_L sign(Q_Lᵀ m Q_R) Q_Rᵀ + λ W),  "
        "s = 2/(rows + columns)",
        source="arXiv:2506.07254; the authors' splus.py",
        scale="invariant",
        translates=False,
        reach="matrix",
        follows="permutations",
        asks={"matrices": "2d"},
        complex=False,
    ),
    Method(
        kron,
        "matrix",
        direction=scale_by_kron,
        equation="m: mean of g;  Q: triangles that make Q_L m Q_Rᵀ white;  "
        "W ← W − η (Q_Lᵀ Q_L m̂ Q_Rᵀ Q_R + λ W)",
        source="arXiv:2402.11858; kron_torch 0.3.3",
        reach="matrix",
        asks={"matrices": "2d"},
        complex=False,
        odd=False,
    ),
    Method(
        textbook.sgd,
        "plain",
        form="sgd",
        equation="W ← W − η ∂L/∂W",
        source="Saitoh 2016, equation (6.1)",
        scale="linear",
        matches="optax.sgd",
        after_nan="recovers",
    ),
    Method(
        textbook.momentum,
        "plain",
        form="momentum",
        equation="v ← α v − η ∂L/∂W;  W ← W + v",
        source="Saitoh 2016, equations (6.3) and (6.4)",
        scale="linear",
    ),
    Method(
        textbook.adagrad,
        "adaptive",
        form="adagrad",
        equation="h ← h + (∂L/∂W)²;  W ← W − η/√(h + ε) ∂L/∂W",
        source="Saitoh 2016, equations (6.5) and (6.6)",
        scale="invariant",
    ),
    Method(
        textbook.adam,
        "adaptive",
        form="adam",
        equation="W ← W − η/√(v + ε) · √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m",
        source="arXiv:1412.6980, end of section 2, with ε under the root",
        scale="invariant",
    ),
    Method(
        torch.SGD,
        "plain",
        form="sgd",
        equation="b ← μ b + (1 − τ) g;  W ← W − η b",
        source="torch.optim.SGD of PyTorch 2.13",
        scale="linear",
        after_nan="recovers",
    ),
    Method(
        torch.Adagrad,
        "adaptive",
        form="adagrad",
        equation="h ← h + g²;  W ← W − η/(1 + (t − 1) δ) g/(√h + ε)",
        source="torch.optim.Adagrad of PyTorch 2.13",
        scale="invariant",
        complex=False,
    ),
    Method(
        torch.RMSprop,
        "adaptive",
        form="rmsprop",
        equation="v: mean of g²;  b ← μ b + g/(√v + ε);  W ← W − η b",
        source="torch.optim.RMSprop of PyTorch 2.13",
        scale="invariant",
        complex=False,
    ),
    Method(
        torch.Adadelta,
        "adaptive",
        form="adadelta",
        equation="v, d: means of g², u²;  u = g √(d + ε)/√(v + ε);  W ← W − η u",
        source="torch.optim.Adadelta of PyTorch 2.13",
        complex=False,
    ),
    Method(
        torch.Adam,
        "adaptive",
        form="adam",
        equation="m, v: means of g, g²;  W ← W − η m̂/(√v̂ + ε)",
        source="torch.optim.Adam of PyTorch 2.13",
        scale="invariant",
        complex=False,
    ),
    Method(
        torch.AdamW,
        "adaptive",
        form="adamw",
        equation="W ← (1 − η λ) W;  then as Adam",
        source="torch.optim.AdamW of PyTorch 2.13",
        scale="invariant",
        translates=False,
        complex=False,
    ),
    Method(
        torch.NAdam,
        "adaptive",
        form="nadam",
        equation="as Adam, with Nesterov's momentum, whose weight rises from β₁/2 to β₁",
        source="torch.optim.NAdam of PyTorch 2.13",
        scale="invariant",
        complex=False,
    ),
    Method(
        torch.RAdam,
        "adaptive",
        form="radam",
        equation="as Adam, with W ← W − η m̂ at first; ε beside √v, which is then corrected",
        source="torch.optim.RAdam of PyTorch 2.13",
        complex=False,
    ),
    Method(
        torch.Adamax,
        "adaptive",
        form="adamax",
        equation="m: mean of g;  u ← max(β₂ u, |g| + ε);  W ← W − η m̂/u",
        source="torch.optim.Adamax of PyTorch 2.13",
        scale="invariant",
        complex=False,
    ),
    Method(
        torch.ASGD,
        "plain",
        form="sgd",
        equation="W ← (1 − κ ηₜ) W − ηₜ g;  a: mean of W;  ηₜ₊₁ = η/(1 + κ η t)^α",
        source="torch.optim.ASGD of PyTorch 2.13",
        translates=False,
        after_nan="recovers",
    ),
    Method(
        torch.Rprop,
        "sign",
        form="rprop",
        equation="Δ ← 1.2 Δ where the sign stays, Δ/2 and no step where it turns;  "
        "W ← W − Δ sign(g)",
        source="torch.optim.Rprop of PyTorch 2.13",
        scale="invariant",
        after_nan="recovers",
        complex=False,
    ),
    Method(
        torch.Adafactor,
        "factored",
        form="adafactor",
        equation="R, C: means of g² along rows, columns;  W ← W − ρ rms(W) g/√(R Cᵀ/mean(R)),  "
        "ρ = min(η, 1/√t)",
        source="torch.optim.Adafactor of PyTorch 2.13",
        reach="layer",
        translates=False,
    ),
    Method(
        torch.Muon,
        "matrix",
        form="muon",
        equation="b: mean of g;  W ← (1 − η λ) W − η √max(1, rows / columns) U Vᵀ,  b = U Σ Vᵀ",
        source="torch.optim.Muon of PyTorch 2.13",
        reach="matrix",
        transposes=False,
        translates=False,
        follows="rotations",
        complex=False,
        rounding=16,
    ),
    Method(
        keras.SGD,
        "plain",
        form="sgd",
        equation="v ← μ v − η g;  W ← W + v",
        source="keras.optimizers.SGD of Keras 3.15",
        scale="linear",
        after_nan="recovers",
    ),
    Method(
        keras.RMSprop,
        "adaptive",
        form="rmsprop",
        equation="v: mean of g²;  b ← μ b + η g/√(v + ε);  W ← W − b",
        source="keras.optimizers.RMSprop of Keras 3.15",
        scale="invariant",
    ),
    Method(
        keras.Adagrad,
        "adaptive",
        form="adagrad",
        equation="h ← h + g²;  W ← W − η g/√(h + ε)",
        source="keras.optimizers.Adagrad of Keras 3.15",
        scale="invariant",
    ),
    Method(
        keras.Adadelta,
        "adaptive",
        form="adadelta",
        equation="v, d: means of g², u²;  u = g √(d + ε)/√(v + ε);  W ← W − η u",
        source="keras.optimizers.Adadelta of Keras 3.15",
    ),
    Method(
        keras.Adam,
        "adaptive",
        form="adam",
        equation="m, v: means of g, g²;  W ← W − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) m/(√v + ε)",
        source="keras.optimizers.Adam of Keras 3.15",
        scale="invariant",
    ),
    Method(
        keras.AdamW,
        "adaptive",
        form="adamw",
        equation="W ← (1 − η λ) W;  then as Adam",
        source="keras.optimizers.AdamW of Keras 3.15",
        scale="invariant",
        translates=False,
    ),
    Method(
        keras.Adamax,
        "adaptive",
        form="adamax",
        equation="m: mean of g;  u ← max(β₂ u, |g|);  W ← W − η m̂/(u + ε)",
        source="keras.optimizers.Adamax of Keras 3.15",
        scale="invariant",
    ),
    Method(
        keras.Nadam,
        "adaptive",
        form="nadam",
        equation="as Adam, with Nesterov's momentum, whose weight rises from β₁/2 to β₁",
        source="keras.optimizers.Nadam of Keras 3.15",
        scale="invariant",
    ),
    Method(
        keras.Ftrl,
        "adaptive",
        form="adagrad",
        equation="n ← n + g²;  z ← z + g − σ W;  W ← (clip(z, −λ₁, λ₁) − z)/(n^−κ/η + 2 λ₂ + β/η)",
        source="keras.optimizers.Ftrl of Keras 3.15",
        odd=False,
        translates=False,
        complex=False,
    ),
    Method(
        keras.Lion,
        "sign",
        form="lion",
        equation="m: mean of g;  W ← W − η sign(β₁ m + (1 − β₁) g)",
        source="keras.optimizers.Lion of Keras 3.15",
        scale="invariant",
    ),
    Method(
        keras.Adafactor,
        "factored",
        form="adafactor",
        equation="R, C: means of g² along rows, columns;  W ← W − ρ rms(W) g/√(R Cᵀ/mean(R)),  "
        "ρ = min(η, 1/√t)",
        source="keras.optimizers.Adafactor of Keras 3.15",
        reach="layer",
        translates=False,
    ),
    Method(
        keras.Lamb,
        "layer-wise",
        form="lamb",
        equation="u: Adam's direction;  W ← W − η ‖W‖/‖u‖ u",
        source="keras.optimizers.Lamb of Keras 3.15",
        scale="invariant",
        reach="layer",
        translates=False,
    ),
)


def _of_optax(name: str) -> Any:
    """What stands in optax under a name such as ``optax.contrib.adopt``; None if nothing does."""
    _, *parts = name.split(".")
    return functools.reduce(lambda x, part: getattr(x, part, None), parts, optax)


def _with_this_optax(record: Method) -> Method:
    """The record, which matches nothing that an older optax lacks."""
    there = record.matches is not None and _of_optax(record.matches) is not None
    return record if there else replace(record, matches=None)


METHODS: dict[str, Method] = {record.name: _with_this_optax(record) for record in _RECORDS}
