"""The optimizers and schedules of the papers where Keras's differ. All work in any `model.compile`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


class _LayerRates:
    """Learning rates of their own for some variables: the optimizer's, times a factor.

    Keras's optimizers have one learning rate for all.
    """

    def __init__(self, *args: Any, layer_rates: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.layer_rates = dict(layer_rates or {})

    def _rate(self, variable: Any, learning_rate: Any) -> Any:
        # By index, since what TensorFlow updates is not Keras's variable, and knows no path.
        parts = self._trainable_variables[self._get_variable_index(variable)].path.split("/")
        endings = ("/".join(parts[i:]) for i in range(len(parts)))
        return learning_rate * next((self.layer_rates[end] for end in endings if end in self.layer_rates), 1.0)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, self._rate(variable, learning_rate))

    def go_on_from(self, other: keras.optimizers.Optimizer) -> None:
        """Takes over what another optimizer of this class knows of the variables that both train, and its steps."""
        known = {_without_name(variable): variable for variable in other.variables}
        for variable in self.variables:
            if (before := known.get(_without_name(variable))) is not None:
                variable.assign(before)
        if self.use_ema:  # Keras begins an average in the first step, which has been
            for variable, average in zip(self._trainable_variables, self._model_variables_moving_average, strict=True):
                if _without_name(average) not in known:
                    average.assign(variable)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer_rates": self.layer_rates}


def _without_name(variable: Any) -> str:
    """Returns the path of an optimizer's variable within it."""
    return variable.path.partition("/")[2]


class _CoupledDecay(_LayerRates):
    """Weight decay that is added to the gradient, like an L2 penalty in the loss, so that momentum acts on it too.

    Keras's own `weight_decay` is decoupled: it shrinks the weights in a separate step, as in AdamW.
    """

    def __init__(self, *args: Any, decay_norms_and_biases: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay_norms_and_biases = decay_norms_and_biases

    def _apply_weight_decay(self, variables: Any) -> None:
        """Replaces Keras's decoupled decay by nothing, as `update_step` does the decay."""

    def _use_weight_decay(self, variable: Any) -> bool:
        # Biases, and the gamma and beta of normalization layers, are one-dimensional.
        return bool(self.weight_decay) and (self.decay_norms_and_biases or len(variable.shape) > 1)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self._use_weight_decay(variable):
            gradient = gradient + ops.cast(self.weight_decay, variable.dtype) * ops.convert_to_tensor(variable)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_norms_and_biases": self.decay_norms_and_biases}


@keras.saving.register_keras_serializable("kresnet")
class SGD(_CoupledDecay, keras.optimizers.SGD):
    """Keras's SGD, but `weight_decay` is added to the gradient, as in Krizhevsky et al. 2012 and the papers since.

    Args:
        decay_norms_and_biases: whether one-dimensional variables decay too. Default: True.
        layer_rates: by what to multiply the learning rate of some variables, by the ends of their paths.
        ...: as in `keras.optimizers.SGD`.
    """


@keras.saving.register_keras_serializable("kresnet")
class RMSprop(_CoupledDecay, keras.optimizers.RMSprop):
    """Keras's RMSprop, but `weight_decay` is added to the gradient, like the L2 penalty of the mobile networks' papers.

    Args:
        decay_norms_and_biases: whether one-dimensional variables decay too. Default: True.
        layer_rates: by what to multiply the learning rate of some variables, by the ends of their paths.
        ...: as in `keras.optimizers.RMSprop`.
    """


@keras.saving.register_keras_serializable("kresnet")
class AdamW(_LayerRates, keras.optimizers.AdamW):
    """Keras's AdamW, but what does not decay is part of its config, so that a saved one decays as it did.

    Args:
        decay_norms_and_biases: whether one-dimensional variables decay too. Default: True.
        layer_rates: by what to multiply the learning rate and decay of some variables, by the ends of their paths.
        ...: as in `keras.optimizers.AdamW`.
    """

    def __init__(self, *args: Any, decay_norms_and_biases: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay_norms_and_biases = decay_norms_and_biases

    def _apply_weight_decay(self, variables: Any) -> None:
        """Replaces Keras's decay, in which all variables have one learning rate, by nothing: `update_step` decays."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.weight_decay and (self.decay_norms_and_biases or len(variable.shape) > 1):
            share = ops.cast(self.weight_decay * self._rate(variable, learning_rate), variable.dtype)
            self.assign_sub(variable, ops.convert_to_tensor(variable) * share)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_norms_and_biases": self.decay_norms_and_biases}


@keras.saving.register_keras_serializable("kresnet")
class Lamb(_CoupledDecay, keras.optimizers.Lamb):
    """Keras's LAMB, but weight decay is part of the update that the trust ratio scales, as in its paper.

    Variables that do not decay have no trust ratio.

    Args:
        decay_norms_and_biases: whether one-dimensional variables decay too. Default: True.
        layer_rates: by what to multiply the learning rate of some variables, by the ends of their paths.
        ...: as in `keras.optimizers.Lamb`.

    Source: You et al. 2020, arXiv:1904.00962, algorithm 2. The exception for variables that do not decay is timm's,
    with which Wightman et al. 2021, arXiv:2110.00476, trained.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = variable.dtype
        gradient, rate = ops.cast(gradient, dtype), ops.cast(self._rate(variable, learning_rate), dtype)
        step = ops.cast(self.iterations + 1, dtype)
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        mean = m / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        deviation = ops.sqrt(v / (1 - ops.power(ops.cast(self.beta_2, dtype), step)))
        update = mean / (deviation + self.epsilon)
        if self._use_weight_decay(variable):
            update = update + ops.cast(self.weight_decay, dtype) * variable
            weight_norm, update_norm = ops.norm(ops.reshape(variable, -1)), ops.norm(ops.reshape(update, -1))
            known = ops.logical_and(weight_norm > 0, update_norm > 0)
            update = update * ops.where(known, weight_norm / ops.where(known, update_norm, 1.0), 1.0)
        self.assign_sub(variable, rate * update)


@keras.saving.register_keras_serializable("kresnet")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up: begins a schedule with smaller learning rates.

    Args:
        schedule: a learning rate, or a schedule.
        steps: length of the warm-up in steps, at least 1.
        start: the learning rate of the first step.
        linear: True: the learning rate rises linearly from `start` to the schedule's first. False: it stays at `start`.
        shift: True: the schedule starts after the warm-up. False: the warm-up replaces its first steps.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2 (constant); Goyal et al. 2017, arXiv:1706.02677, section 2.2
    (linear).
    """

    def __init__(self, schedule: Any, steps: int, start: float = 0.0, linear: bool = True, shift: bool = False) -> None:
        self.schedule, self.steps, self.start, self.linear, self.shift = schedule, steps, start, linear, shift

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        step_of_schedule = ops.maximum(step - self.steps, 0) if self.shift else step
        rate = ops.cast(self._at(step_of_schedule), "float32")
        target = ops.cast(self._at(0.0), "float32")
        warming = self.start + (target - self.start) * step / self.steps if self.linear else self.start
        return ops.where(step < self.steps, warming, rate)

    def _at(self, step: Any) -> Any:
        return self.schedule(step) if callable(self.schedule) else self.schedule

    def get_config(self) -> dict[str, Any]:
        names = ("steps", "start", "linear", "shift")
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.optimizers.schedules.serialize(schedule)
        return {"schedule": schedule, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        if isinstance(config["schedule"], dict):
            config = config | {"schedule": keras.optimizers.schedules.deserialize(config["schedule"])}
        return cls(**config)
