"""Which calls of keras.optimizers are recorded."""

CALLS = """
SGD(global_clipnorm=1.0)
SGD(learning_rate=schedule(0.02), momentum=0.9, clipvalue=0.5)
SGD(learning_rate=schedule(0.02), momentum=0.8, nesterov=True, weight_decay=0.1, clipnorm=1.0)
RMSprop(clipnorm=1.0)
RMSprop(learning_rate=schedule(0.02), rho=0.8, momentum=0.9, epsilon=1e-3, clipvalue=0.5)
RMSprop(learning_rate=schedule(0.02), centered=True, weight_decay=0.1, global_clipnorm=1.0)
Adagrad(global_clipnorm=2.0)
Adagrad(learning_rate=schedule(0.1), initial_accumulator_value=0.5, epsilon=1e-3, clipnorm=1.0)
Adagrad(learning_rate=schedule(0.1), weight_decay=0.1, clipvalue=0.5)
Adadelta()
Adadelta(learning_rate=schedule(0.5), rho=0.8, epsilon=1e-3, weight_decay=0.1, clipnorm=1.0)
Adam()
Adam(learning_rate=schedule(0.02), beta_1=0.8, beta_2=0.99, epsilon=1e-3, weight_decay=0.1)
Adam(learning_rate=schedule(0.02), beta_2=0.9, amsgrad=True, clipnorm=1.0)
Adam(learning_rate=schedule(0.02), beta_1=0.8, global_clipnorm=1.0)
AdamW()
AdamW(learning_rate=schedule(0.02), weight_decay=0.1, beta_1=0.8, beta_2=0.99, epsilon=1e-3)
AdamW(learning_rate=schedule(0.02), beta_2=0.9, amsgrad=True, global_clipnorm=1.0)
AdamW(learning_rate=schedule(0.02), beta_2=0.9, clipvalue=0.5)
Adamax()
Adamax(learning_rate=schedule(0.02), beta_1=0.8, beta_2=0.99, epsilon=1e-2, weight_decay=0.1)
Nadam()
Nadam(learning_rate=schedule(0.02), beta_1=0.8, beta_2=0.99, epsilon=1e-3, weight_decay=0.1)
Ftrl()
Ftrl(learning_rate=schedule(0.1), l1_regularization_strength=0.5, weight_decay=0.1, clipvalue=1.0)
Ftrl(learning_rate=0.1, learning_rate_power=-0.3, l2_regularization_strength=0.1, beta=1.0)
Ftrl(learning_rate=0.1, l2_shrinkage_regularization_strength=0.1, initial_accumulator_value=0.5)
Lion()
Lion(learning_rate=schedule(0.02), beta_1=0.8, beta_2=0.9, weight_decay=0.1, clipnorm=1.0)
Adafactor()
Adafactor(learning_rate=0.1, beta_2_decay=-0.5, epsilon_1=1e-3, epsilon_2=0.1, clip_threshold=0.5)
Adafactor(learning_rate=schedule(0.5), relative_step=False, weight_decay=0.1, global_clipnorm=1.0)
Lamb()
Lamb(learning_rate=schedule(0.02), beta_1=0.8, beta_2=0.99, epsilon=1e-3, weight_decay=0.1)
""".strip().split("\n")
"""As they are made in both libraries; 200 steps of each are recorded, on all its leaves at once."""

BOUNDS = {"clipnorm", "clipvalue", "global_clipnorm"}
"""What all take in the same way; each is recorded with some."""


def leaves(label: str) -> tuple[str, ...]:
    """The leaves that an optimizer is recorded on, by their names in `replay.SHAPES`."""
    return ("tall", "vector", "copies") if label.startswith("Adafactor") else ("tall", "vector")
