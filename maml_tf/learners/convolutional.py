"""The convolutional net of Vinyals et al. 2016, as the paper uses it (5.2, A.1)."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

import tensorflow as tf

from maml_tf.episodes import leading_sizes
from maml_tf.learners import as_keras, normalisation, task_ops
from maml_tf.learners.base import ParameterSpec, glorot_uniform, standard_normal
from maml_tf.learners.with_head import HEAD, WithHead

BLOCKS = ('conv1', 'conv2', 'conv3', 'conv4')
KERNEL_SIZE = 3


class Convolutional(WithHead):
  """Four blocks of 3x3 convolution, normalisation and ReLU, and a linear classifier.

  With `max_pool` the convolutions have stride 1 and a 2x2 max-pool follows each
  block; without it they have stride 2.

  Args:
    image_shape: (height, width, channels) of an input image.
    num_filters: of every convolution; 64 for Omniglot, 32 for mini-ImageNet.
    num_outputs: classes.
    norm: 'batch_norm', 'layer_norm' or 'None'.
    max_pool: see above.
    spatial_mean: True: the classifier sees the mean over the last feature map
      (Omniglot), and starts from N(0, 1); False: it sees the flattened map
      (mini-ImageNet) and starts from Glorot uniform. Both as in the TF1 code.
    compiled_by_xla: max-pooling in the form that is exact under XLA.
    mixed_precision: products in bfloat16, see `task_ops`.

  Input: `[tasks, examples, height, width, channels]`, values from 0 to 1, or the
  same flattened to `[tasks, examples, pixels]`.
  """

  def __init__(self, image_shape: Tuple[int, int, int], num_filters: int,
               num_outputs: int, norm: str, max_pool: bool, spatial_mean: bool,
               compiled_by_xla: bool = False, mixed_precision: bool = False):
    self._image_shape = tuple(image_shape)
    self._num_filters = num_filters
    self._norm = norm
    self._max_pool = max_pool
    self._spatial_mean = spatial_mean
    self._mixed_precision = mixed_precision
    self.exact_under_xla = compiled_by_xla or not max_pool
    self._pool = tf.identity
    if max_pool:
      self._pool = (task_ops.max_pool_2x2_by_windows if compiled_by_xla
                    else task_ops.max_pool_2x2)
    height, width, channels = image_shape
    specs = []
    for scope in BLOCKS:
      specs += [ParameterSpec(f'{scope}/kernel',
                              (KERNEL_SIZE, KERNEL_SIZE, channels, num_filters),
                              glorot_uniform),
                *normalisation.specs(norm, scope, num_filters)]
      channels = num_filters
      # VALID max-pooling rounds down, SAME convolution of stride 2 up.
      height, width = ((size + (not max_pool)) // 2 for size in (height, width))
    num_features = num_filters if spatial_mean else height * width * num_filters
    specs += [ParameterSpec(f'{HEAD}/kernel', (num_features, num_outputs),
                            standard_normal if spatial_mean else glorot_uniform),
              *normalisation.specs('None', HEAD, num_outputs)]
    self._specs = tuple(specs)
    self._num_features = num_features

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return self._specs

  def features(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None,
               collected: Optional[Dict[str, tf.Tensor]] = None) -> tf.Tensor:
    features = self._as_images(inputs)
    for scope in BLOCKS:
      features = task_ops.conv2d(features, parameters[f'{scope}/kernel'],
                                 1 if self._max_pool else 2, self._mixed_precision)
      features = normalisation.activate(self._norm, scope, parameters, features, self._pool,
                                        statistics_size, collected)
    if self._spatial_mean:
      return tf.reduce_mean(features, axis=[2, 3])
    return tf.reshape(features, [*leading_sizes(features), self._num_features])

  def as_model(self, values: Mapping[str, tf.Tensor], inputs: tf.Tensor, into=None
               ) -> tf.keras.Model:
    layers = tf.keras.layers
    net = as_keras.Net(self, self._norm, values, inputs)
    for scope in BLOCKS:
      net.add(layers.Conv2D, scope, self._num_filters, KERNEL_SIZE, padding='same',
              strides=1 if self._max_pool else 2)
      if self._max_pool:
        net.add_plain(layers.MaxPooling2D)
    net.add_plain(layers.GlobalAveragePooling2D if self._spatial_mean else layers.Flatten)
    return net.model(self._image_shape, into)

  def _as_images(self, inputs: tf.Tensor) -> tf.Tensor:
    if inputs.shape[2:] == self._image_shape:
      return inputs
    return tf.reshape(inputs, [*leading_sizes(inputs), *self._image_shape])
