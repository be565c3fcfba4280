"""Which calls of torch.optim are recorded."""

CALLS = """
SGD(lr=0.02)
SGD(lr=schedule(0.02), weight_decay=0.1)
SGD(lr=schedule(0.02), momentum=0.9)
SGD(lr=schedule(0.02), momentum=0.9, dampening=0.5, weight_decay=0.1)
SGD(lr=schedule(0.02), momentum=0.8, nesterov=True)
SGD(lr=schedule(0.02), momentum=0.9, weight_decay=0.1, maximize=True)
Adagrad()
Adagrad(lr=schedule(0.1), lr_decay=0.01, weight_decay=0.1)
Adagrad(lr=schedule(0.1), initial_accumulator_value=0.1, eps=1e-3)
Adagrad(lr=schedule(0.1), weight_decay=0.1, maximize=True)
RMSprop()
RMSprop(lr=schedule(0.02), alpha=0.9, eps=1e-3, weight_decay=0.1)
RMSprop(lr=schedule(0.02), momentum=0.9)
RMSprop(lr=schedule(0.02), centered=True)
RMSprop(lr=schedule(0.02), alpha=0.9, momentum=0.8, centered=True, weight_decay=0.1, maximize=True)
Adadelta()
Adadelta(lr=schedule(0.5), rho=0.8, eps=1e-3, weight_decay=0.1)
Adadelta(lr=schedule(0.5), weight_decay=0.1, maximize=True)
Adam()
Adam(lr=schedule(0.02), betas=(0.8, 0.99), eps=1e-3, weight_decay=0.1)
Adam(lr=schedule(0.02), betas=(0.9, 0.9), amsgrad=True)
Adam(lr=schedule(0.02), weight_decay=0.1, decoupled_weight_decay=True)
Adam(lr=schedule(0.02), betas=(0.9, 0.9), amsgrad=True, weight_decay=0.1, maximize=True)
AdamW()
AdamW(lr=schedule(0.02), betas=(0.8, 0.99), eps=1e-3, weight_decay=0.1)
AdamW(lr=schedule(0.02), betas=(0.9, 0.9), amsgrad=True, weight_decay=0.1, maximize=True)
NAdam()
NAdam(lr=schedule(0.02), betas=(0.8, 0.99), eps=1e-3, weight_decay=0.1, momentum_decay=0.1)
NAdam(lr=schedule(0.02), weight_decay=0.1, decoupled_weight_decay=True, maximize=True)
RAdam()
RAdam(lr=schedule(0.02), betas=(0.8, 0.99), eps=1e-3, weight_decay=0.1)
RAdam(lr=schedule(0.02), weight_decay=0.1, decoupled_weight_decay=True, maximize=True)
Adamax()
Adamax(lr=schedule(0.02), betas=(0.8, 0.99), eps=1e-2, weight_decay=0.1)
Adamax(lr=schedule(0.02), weight_decay=0.1, maximize=True)
ASGD()
ASGD(lr=schedule(0.02), lambd=0.01, alpha=0.6, t0=20, weight_decay=0.1)
ASGD(lr=schedule(0.02), lambd=0.1, maximize=True)
Rprop()
Rprop(lr=schedule(0.1), etas=(0.7, 1.1), step_sizes=(0.01, 0.3), maximize=True)
Adafactor()
Adafactor(lr=schedule(0.1), beta2_decay=-0.5, eps=(0.1, 0.01), d=2.0, weight_decay=0.1)
Adafactor(lr=schedule(0.5), weight_decay=0.1, maximize=True)
Muon()
Muon(lr=schedule(0.02), weight_decay=0.2, momentum=0.8, adjust_lr_fn="original")
Muon(lr=schedule(0.02), nesterov=False, adjust_lr_fn="match_rms_adamw", eps=20.0)
Muon(lr=schedule(0.02), ns_coefficients=(2.0, -1.5, 0.5), ns_steps=12)
""".strip().split("\n")
"""As they are made in both libraries, but for the parameters; 200 steps of each are recorded."""


def factor(step: int) -> float:
    """What a rate in ``schedule(...)`` is multiplied by, from 1 at the first step on."""
    return 1 / (1 + step / 50)


def leaves(label: str) -> tuple[str, ...]:
    """The leaves that an optimizer is recorded on, by their names in `replay.SHAPES`."""
    if label.startswith("Muon"):
        return ("tall", "wide", "row")
    return ("tall", "vector", "copies") if label.startswith("Adafactor") else ("tall", "vector")
