"""Policies: nets as pure functions of explicit parameters, and what they act by (A.2).

As everywhere, a learner holds no variables. Training sees all parameters of a task as one
vector, `[tasks, P]`, in the order of the specs: that is what conjugate gradients work on.
"""

from __future__ import annotations

import abc
import math
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.learners import task_ops
from maml_tf.learners.base import Learner, Parameters, ParameterSpec, glorot_uniform, zeros
from maml_tf.rl.environments import ContinuousActions, DiscreteActions, Environment
from maml_tf.rl.errors import Diverged

OUTPUT = 'output'
LOG_STD = 'log_std'
CONTEXT = 'context'
SMALLEST_LOG_STD = math.log(1e-6)

Outputs = Tuple[tf.Tensor, ...]


class Policy(Learner):
  """Hidden layers with ReLU and a linear output, on which a distribution stands.

  Args:
    observation_size: numbers in an observation.
    num_outputs: of the net.
    hidden_sizes: the paper's are (100, 100).
    context_size: numbers of a context vector behind the observation, which starts from
      0 and is then the only thing that the inner loop adapts (appendix C); 0: none, and
      everything is adapted.

  Initialisation as in the original code: weights Glorot uniform, biases 0.
  """

  def __init__(self, observation_size: int, num_outputs: int,
               hidden_sizes: Sequence[int] = (100, 100), context_size: int = 0):
    self.observation_size = observation_size
    self._layers = (*(f'hidden{i + 1}' for i in range(len(hidden_sizes))), OUTPUT)
    sizes = (observation_size + context_size, *hidden_sizes, num_outputs)
    specs = []
    for scope, fan_in, fan_out in zip(self._layers, sizes, sizes[1:]):
      specs += [ParameterSpec(f'{scope}/kernel', (fan_in, fan_out), glorot_uniform),
                ParameterSpec(f'{scope}/bias', (fan_out,), zeros)]
    further = self._further_specs(num_outputs)
    specs += further
    self._further = tuple(spec.name for spec in further)
    if context_size:
      specs = [spec._replace(adapted=False) for spec in specs]
      specs.append(ParameterSpec(CONTEXT, (context_size,), zeros))
    self._specs = tuple(specs)

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return self._specs

  @property
  def layers(self) -> Tuple[str, ...]:
    """Of the net: the scopes of their parameters."""
    return self._layers

  @property
  def further(self) -> Tuple[str, ...]:
    """The parameters that are beside the net, and describe a distribution with its outputs."""
    return self._further

  @property
  def num_parameters(self) -> int:
    """P."""
    return sum(self._sizes())

  def adapted_mask(self) -> np.ndarray:
    """`[P]`: 1 where the inner loop changes a parameter, else 0."""
    return np.concatenate([np.full(math.prod(spec.shape), float(spec.adapted))
                           for spec in self._specs])

  def flat(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """`[P]` of {name: array}."""
    return np.concatenate([np.ravel(values[spec.name]) for spec in self._specs])

  def split(self, vectors: np.ndarray) -> Dict[str, np.ndarray]:
    """{name: `[..., *shape]`} of `[..., P]`."""
    parts = np.split(vectors, np.cumsum(self._sizes())[:-1], axis=-1)
    return {spec.name: part.reshape(*vectors.shape[:-1], *spec.shape)
            for spec, part in zip(self._specs, parts)}

  def split_tensor(self, vectors: tf.Tensor) -> Parameters:
    """{name: `[tasks, *shape]`} of `[tasks, P]`."""
    parts = tf.split(vectors, self._sizes(), axis=1)
    return {spec.name: tf.reshape(part, [-1, *spec.shape])
            for spec, part in zip(self._specs, parts)}

  def joined(self, parameters: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """`[tasks, P]` of {name: `[tasks, *shape]`}."""
    return tf.concat([tf.reshape(parameters[spec.name], [-1, size])
                      for spec, size in zip(self._specs, self._sizes())], axis=1)

  def net(self, parameters: Mapping[str, tf.Tensor], observations: tf.Tensor
          ) -> Tuple[Tuple[tf.Tensor, ...], tf.Tensor]:
    """What each layer sees, and what the last one gives, `[tasks, samples, size]` each."""
    values, seen = observations, []
    if CONTEXT in parameters:
      context = parameters[CONTEXT][:, tf.newaxis]
      values = tf.concat(
          [values, tf.repeat(context, tf.shape(values)[1], axis=1)], axis=-1)
    for scope in self._layers:
      seen.append(values)
      values = task_ops.linear(values, parameters, scope)
      if scope != OUTPUT:
        # `task_ops.relu` is for second derivatives, which `linearised` takes by hand.
        values = tf.nn.relu(values)
    return tuple(seen), values

  def _net(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray
           ) -> np.ndarray:
    """The net's outputs in NumPy, `[tasks, rollouts, outputs]`."""
    features = observations
    if CONTEXT in parameters:
      context = parameters[CONTEXT][:, np.newaxis]
      features = np.concatenate([features, np.broadcast_to(
          context, (*features.shape[:2], context.shape[-1]))], axis=-1)
    for scope in self._layers:
      features = (features @ parameters[f'{scope}/kernel']
                  + parameters[f'{scope}/bias'][:, np.newaxis])
      if scope != OUTPUT:
        features = np.maximum(features, 0)
    return features

  def _sizes(self):
    return [math.prod(spec.shape) for spec in self._specs]

  def _further_specs(self, num_outputs: int) -> Sequence[ParameterSpec]:
    return ()

  @abc.abstractmethod
  def output_specs(self, dtype: str) -> Tuple[tf.TensorSpec, ...]:
    """Of the outputs, for any number of tasks and samples."""

  @abc.abstractmethod
  def action_spec(self, dtype: str) -> tf.TensorSpec:
    """Of actions, `[tasks, samples, ...]`."""

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor) -> Outputs:
    """What describes the distributions of the actions.

    Args:
      parameters: {name: `[tasks, *shape]`}.
      inputs: observations `[tasks, samples, size]`.
    """
    return self.described(self.net(parameters, inputs)[1], parameters)

  @abc.abstractmethod
  def described(self, raw: tf.Tensor, parameters: Mapping[str, tf.Tensor]) -> Outputs:
    """The same, of what the net gives, `[tasks, samples, outputs]`; of `parameters` those
    that are `further`."""

  @abc.abstractmethod
  def log_likelihood(self, outputs: Outputs, actions: tf.Tensor) -> tf.Tensor:
    """log pi(action), `[tasks, samples]`; of actions as they were sampled, unclipped."""

  @abc.abstractmethod
  def kl(self, old: Outputs, new: Outputs) -> tf.Tensor:
    """KL(old || new) of each sample, `[tasks, samples]`; exactly 0 where both are equal."""

  @abc.abstractmethod
  def fisher_product(self, outputs: Outputs, tangents: Outputs, weights: tf.Tensor
                     ) -> Outputs:
    """sum over samples of weight x (Hessian of KL(old || new) by the outputs, at old) x
    tangent, in the form of the outputs.

    Args:
      outputs: of the policy.
      tangents: in the form of the outputs.
      weights: `[tasks, samples]`.
    """

  @abc.abstractmethod
  def could_choose(self, actions: np.ndarray) -> np.ndarray:
    """Which of `actions` `[..., *shape]` have a likelihood, `[...]`."""

  @abc.abstractmethod
  def draw_noise(self, random: np.random.Generator, steps: int) -> np.ndarray:
    """All that is random in the actions of an episode, `[steps, ...]`."""

  @abc.abstractmethod
  def act(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray,
          noise: np.ndarray) -> np.ndarray:
    """Actions `[tasks, rollouts, ...]`, in NumPy.

    Args:
      parameters: {name: `[tasks, *shape]`}.
      observations: `[tasks, rollouts, size]`.
      noise: `[tasks, rollouts, ...]`, of this step.
    """

  @abc.abstractmethod
  def most_likely(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray
                  ) -> np.ndarray:
    """Actions as `act` has them, without chance."""

  def check(self, vectors: np.ndarray, what: str) -> None:
    """Raises `Diverged` where parameters `[..., P]` are of no use any more.

    Args:
      vectors: the parameters.
      what: whose they are, for the sentence.
    """
    if not np.isfinite(vectors).all():
      raise Diverged(f'The parameters {what} are not finite. Choose a smaller inner step '
                     'size (update_lr), or look for rewards that are very large.')


class GaussianPolicy(Policy):
  """Normal actions: the net's output is the mean; the deviation is one free vector.

  log sigma is the same in every state, starts from 0, is at least log 1e-6, and is
  adapted like the rest. The outputs are the mean `[tasks, samples, actions]` and
  log sigma `[tasks, 1, actions]`.

  Args:
    observation_size, hidden_sizes, context_size: see `Policy`.
    action_size: numbers in an action.
    smallest_log_std: the bound.
  """

  def __init__(self, observation_size: int, action_size: int,
               hidden_sizes: Sequence[int] = (100, 100), context_size: int = 0,
               smallest_log_std: float = SMALLEST_LOG_STD):
    super().__init__(observation_size, action_size, hidden_sizes, context_size)
    self._action_size = action_size
    self._smallest_log_std = smallest_log_std

  def _further_specs(self, num_outputs: int) -> Sequence[ParameterSpec]:
    return (ParameterSpec(LOG_STD, (num_outputs,), zeros),)

  def output_specs(self, dtype: str) -> Tuple[tf.TensorSpec, ...]:
    return (tf.TensorSpec([None, None, self._action_size], dtype),
            tf.TensorSpec([None, 1, self._action_size], dtype))

  def action_spec(self, dtype: str) -> tf.TensorSpec:
    return tf.TensorSpec([None, None, self._action_size], dtype)

  def described(self, raw: tf.Tensor, parameters: Mapping[str, tf.Tensor]) -> Outputs:
    log_std = tf.maximum(parameters[LOG_STD], self._smallest_log_std)
    return raw, log_std[:, tf.newaxis]

  def log_likelihood(self, outputs: Outputs, actions: tf.Tensor) -> tf.Tensor:
    mean, log_std = outputs
    scaled = (actions - mean) * tf.exp(-log_std)
    return (-tf.reduce_sum(log_std + 0.5 * scaled ** 2, axis=-1)
            - 0.5 * self._action_size * math.log(2 * math.pi))

  def kl(self, old: Outputs, new: Outputs) -> tf.Tensor:
    (old_mean, old_log_std), (mean, log_std) = old, new
    variances = tf.exp(2 * (old_log_std - log_std))
    distances = ((old_mean - mean) * tf.exp(-log_std)) ** 2
    return tf.reduce_sum(log_std - old_log_std + 0.5 * (variances + distances) - 0.5, -1)

  def fisher_product(self, outputs: Outputs, tangents: Outputs, weights: tf.Tensor
                     ) -> Outputs:
    _, log_std = outputs
    mean_tangent, log_std_tangent = tangents
    total = tf.reduce_sum(weights, axis=1)[:, tf.newaxis, tf.newaxis]
    return (weights[..., tf.newaxis] * mean_tangent * tf.exp(-2 * log_std),
            2 * total * log_std_tangent)

  def could_choose(self, actions: np.ndarray) -> np.ndarray:
    return np.isfinite(actions).all(axis=-1)

  def draw_noise(self, random: np.random.Generator, steps: int) -> np.ndarray:
    return random.standard_normal((steps, self._action_size))

  def act(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray,
          noise: np.ndarray) -> np.ndarray:
    std = np.exp(np.maximum(parameters[LOG_STD], self._smallest_log_std))[:, np.newaxis]
    return self._net(parameters, observations) + std * noise.astype(std.dtype)

  def most_likely(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray
                  ) -> np.ndarray:
    return self._net(parameters, observations)

  def check(self, vectors: np.ndarray, what: str) -> None:
    super().check(vectors, what)
    log_std = self.split(vectors)[LOG_STD]
    if (log_std <= self._smallest_log_std).any():
      smallest = math.exp(self._smallest_log_std)
      raise Diverged(f'The deviation of the actions of the policy {what} has collapsed '
                     f'to {smallest:.0e}: it explores nothing any more. Choose a smaller '
                     'inner step size (update_lr), or fewer iterations.')


class CategoricalPolicy(Policy):
  """Discrete actions: the net's outputs are the logits, `[tasks, samples, actions]`."""

  def __init__(self, observation_size: int, num_actions: int,
               hidden_sizes: Sequence[int] = (100, 100), context_size: int = 0):
    super().__init__(observation_size, num_actions, hidden_sizes, context_size)
    self._num_actions = num_actions

  def output_specs(self, dtype: str) -> Tuple[tf.TensorSpec, ...]:
    return (tf.TensorSpec([None, None, self._num_actions], dtype),)

  def action_spec(self, dtype: str) -> tf.TensorSpec:
    return tf.TensorSpec([None, None], tf.int32)

  def described(self, raw: tf.Tensor, parameters: Mapping[str, tf.Tensor]) -> Outputs:
    return (raw,)

  def log_likelihood(self, outputs: Outputs, actions: tf.Tensor) -> tf.Tensor:
    logarithms = tf.nn.log_softmax(outputs[0])
    return tf.reduce_sum(
        tf.one_hot(actions, self._num_actions, dtype=logarithms.dtype) * logarithms, -1)

  def kl(self, old: Outputs, new: Outputs) -> tf.Tensor:
    before, after = tf.nn.log_softmax(old[0]), tf.nn.log_softmax(new[0])
    return tf.reduce_sum(tf.exp(before) * (before - after), axis=-1)

  def fisher_product(self, outputs: Outputs, tangents: Outputs, weights: tf.Tensor
                     ) -> Outputs:
    chances = tf.nn.softmax(outputs[0])
    centred = tangents[0] - tf.reduce_sum(chances * tangents[0], axis=-1, keepdims=True)
    return (weights[..., tf.newaxis] * chances * centred,)

  def could_choose(self, actions: np.ndarray) -> np.ndarray:
    return (actions >= 0) & (actions < self._num_actions)

  def draw_noise(self, random: np.random.Generator, steps: int) -> np.ndarray:
    return random.uniform(size=steps)

  def act(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray,
          noise: np.ndarray) -> np.ndarray:
    logits = self._logits(parameters, observations)
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    bounds = np.cumsum(chances, axis=-1)
    # The last bound is left out: with it, round-off could choose an action too many.
    return np.sum(noise[..., np.newaxis] * bounds[..., -1:] >= bounds[..., :-1],
                  axis=-1).astype(np.int32)

  def most_likely(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray
                  ) -> np.ndarray:
    return self._logits(parameters, observations).argmax(axis=-1).astype(np.int32)

  def _logits(self, parameters: Mapping[str, np.ndarray], observations: np.ndarray
              ) -> np.ndarray:
    logits = self._net(parameters, observations).astype(np.float64)
    if not np.isfinite(logits).all():   # of which an action would be made all the same
      raise Diverged('The logits of the actions are not finite. Choose a smaller inner step '
                     'size (update_lr), or look for observations that are very large, or '
                     'not finite.')
    return logits


def policy_for(environment: Environment, **options) -> Policy:
  """The policy that fits an environment; `options` as of `Policy`."""
  size, actions = environment.observation_size, environment.actions
  if isinstance(actions, ContinuousActions):
    return GaussianPolicy(size, actions.size, **options)
  if isinstance(actions, DiscreteActions):
    return CategoricalPolicy(size, actions.count, **options)
  raise TypeError(f'Actions are ContinuousActions or DiscreteActions. Received: {actions!r}.')
