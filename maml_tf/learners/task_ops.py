"""Layers over a leading task axis, whose weights are shared or one per task.

`inputs` are `[tasks, examples, ...]` throughout. A weight of its natural rank is
shared by the tasks; one rank more is a copy per task. All of them are exact in
second order, in float32 and float64.

With `mixed_precision` the factors of a convolution or product are rounded to
bfloat16, which has the range of float32, so that no loss needs scaling; the result,
and all between two products, keep the type of `inputs`.
"""

from __future__ import annotations

from typing import Callable, Mapping

import tensorflow as tf

from maml_tf.custom_gradients import custom_gradient
from maml_tf.episodes import leading_sizes, merged


def over_examples(values: tf.Tensor, rank: int) -> tf.Tensor:
  """Per-channel values in the shape that broadcasts over inputs of that rank.

  `[channels]` as it is, `[tasks, channels]` -> `[tasks, 1, ..., channels]`.
  """
  if values.shape.rank == 1:
    return values
  return tf.reshape(values, [-1] + [1] * (rank - 2) + [values.shape[-1]])


def linear(inputs: tf.Tensor, parameters: Mapping[str, tf.Tensor], scope: str,
           mixed_precision: bool = False) -> tf.Tensor:
  """`[tasks, examples, in]` -> `[tasks, examples, out]`, with the layer's bias."""
  outputs = dense(inputs, parameters[f'{scope}/kernel'], mixed_precision)
  return outputs + over_examples(parameters[f'{scope}/bias'], outputs.shape.rank)


def dense(inputs: tf.Tensor, kernel: tf.Tensor, mixed_precision: bool = False) -> tf.Tensor:
  """`[tasks, examples, in]` by `[in, out]` or `[tasks, in, out]`."""
  if mixed_precision:
    return _in_bfloat16(dense, inputs, kernel)
  if kernel.shape.rank == 3:
    return tf.matmul(inputs, kernel)
  return _split_tasks(tf.matmul(merged(inputs), kernel), inputs)


def conv2d(inputs: tf.Tensor, kernel: tf.Tensor, stride: int,
           mixed_precision: bool = False) -> tf.Tensor:
  """3x3-style convolution with SAME padding.

  Args:
    inputs: `[tasks, examples, height, width, in]`.
    kernel: `[h, w, in, out]`, or `[tasks, h, w, in, out]`.
    stride: in both directions.
    mixed_precision: see above.
  """
  if mixed_precision:
    return _in_bfloat16(conv2d, inputs, kernel, stride)
  if kernel.shape.rank == 5 and kernel.shape[0] == 1:
    kernel = tf.squeeze(kernel, axis=0)
  if kernel.shape.rank == 4:
    outputs = tf.nn.conv2d(merged(inputs), kernel, strides=stride, padding='SAME')
    return _split_tasks(outputs, inputs)
  return _conv2d_by_patches(inputs, kernel, stride)


def relu(inputs: tf.Tensor) -> tf.Tensor:
  """max(0, inputs). Its second derivative is zero, and nothing is computed for it.

  TensorFlow's own fills a tensor with zeros there and adds it to what comes from
  elsewhere, and so does its max-pooling: two passes over memory for each, and memory
  that is in use from the start of the step on.
  """
  def masked(upstream, outputs):
    return tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)

  @custom_gradient
  def forward(inputs):
    outputs = tf.nn.relu(inputs)
    return outputs, lambda upstream: _linear(masked, masked, upstream, outputs)
  return forward(inputs)


def max_pool_2x2(inputs: tf.Tensor) -> tf.Tensor:
  """2x2 max-pooling with VALID padding. Among equal values the first one counts."""
  window = dict(ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding='VALID')

  def by(operation):
    return lambda upstream, inputs, outputs: operation(
        grad=upstream, orig_input=inputs, orig_output=outputs, **window)
  scattered, gathered = by(tf.raw_ops.MaxPoolGrad), by(tf.raw_ops.MaxPoolGradGrad)

  @custom_gradient
  def forward(inputs):
    outputs = tf.raw_ops.MaxPool(input=inputs, **window)
    return outputs, lambda upstream: _linear(scattered, gathered, upstream, inputs, outputs)
  return _split_tasks(forward(merged(inputs)), inputs)


def max_pool_2x2_by_windows(inputs: tf.Tensor) -> tf.Tensor:
  """The same function from elementary operations.

  The second derivative of `max_pool2d` is wrong when XLA compiles it (it packs
  values into 16 bits and can pick another element on near-ties); this one is
  right everywhere. The choice of the element is constant almost everywhere, so
  it is taken as a constant mask.
  """
  images = merged(inputs)
  height, width, channels = images.shape[1] // 2, images.shape[2] // 2, images.shape[3]
  windows = tf.reshape(images[:, :2 * height, :2 * width],
                       [-1, height, 2, width, 2, channels])
  windows = tf.reshape(tf.transpose(windows, [0, 1, 3, 5, 2, 4]),
                       [-1, height, width, channels, 4])
  chosen = tf.one_hot(tf.argmax(windows, axis=-1), 4, dtype=inputs.dtype)
  return _split_tasks(tf.reduce_sum(windows * chosen, axis=-1), inputs)


def _linear(function: Callable, transposed: Callable, argument: tf.Tensor,
            *constants: tf.Tensor) -> tf.Tensor:
  """`function(argument, *constants)`, linear in `argument`, with its derivative.

  Args:
    transposed: the transposed linear map, with the same constants.
    *constants: no derivative is taken by them. They are arguments, because TensorFlow
      searches what a custom gradient closes over, back to the start of the graph.
  """
  @custom_gradient
  def forward(argument, *constants):
    def gradient(upstream):
      return (_linear(transposed, function, upstream, *constants),
              *[None] * len(constants))
    return function(argument, *constants), gradient
  return forward(argument, *constants)


def _in_bfloat16(product, inputs: tf.Tensor, kernel: tf.Tensor, *arguments) -> tf.Tensor:
  outputs = product(tf.cast(inputs, tf.bfloat16), tf.cast(kernel, tf.bfloat16), *arguments)
  return tf.cast(outputs, inputs.dtype)


def _conv2d_by_patches(inputs, kernel, stride):
  """One kernel per task, as one batched matrix product for all tasks.

  `vectorized_map` cannot batch `conv2d` over kernels.
  """
  _, height, width, in_channels, out_channels = kernel.shape
  [tasks] = leading_sizes(kernel, axes=1)
  patches = tf.image.extract_patches(
      merged(inputs), sizes=[1, height, width, 1], strides=[1, stride, stride, 1],
      rates=[1, 1, 1, 1], padding='SAME')
  matrix = tf.reshape(kernel, [tasks, height * width * in_channels, out_channels])
  outputs = tf.matmul(
      tf.reshape(patches, [tasks, -1, height * width * in_channels]), matrix)
  return tf.reshape(outputs, [tasks, -1, patches.shape[1], patches.shape[2], out_channels])


def _split_tasks(outputs: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
  """`[tasks * examples, ...]` -> `[tasks, examples, ...]`, sizes as in `like`."""
  return tf.reshape(outputs, leading_sizes(like) + outputs.shape[1:].as_list())
