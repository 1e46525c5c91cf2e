"""One small use of every layer, activation and loss of Keras, for `layer_table`."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Tuple

import tensorflow as tf

IMAGE, LINE, VOLUME = (5, 6, 2), (6, 3), (4, 4, 4, 2)
VECTOR, VIDEO, WORDS = (5,), (3, 5, 5, 2), (6,)


class Case(NamedTuple):
  """A use.

  Attributes:
    make: -> a layer, or a function of tensors.
    shapes: of the examples of its inputs.
    inputs: 'floats'; 'words', integers from 0 to 6; 'probabilities'.
    random: whether it is drawn from, in training.
  """
  make: Callable[[], Any]
  shapes: Tuple[Tuple[int, ...], ...] = (VECTOR,)
  inputs: str = 'floats'
  random: bool = False


def cases() -> Dict[str, Case]:
  """{name: case}, of what this version of Keras has."""
  found = {**_with_weights(), **_recurrent(), **_attention(), **_norms(), **_pooling(),
           **_shapes(), **_merging(), **_random(), **_preprocessing(), **_activations()}
  return {name: case for name, case in found.items()
          if name.startswith('activation ') or hasattr(tf.keras.layers, name.split(' ')[0])}


def _layer(name: str, shapes, inputs: str = 'floats', random: bool = False, **kwargs) -> Case:
  def make():
    return getattr(tf.keras.layers, name.split(' ')[0])(**kwargs)
  return Case(make, shapes, inputs, random)


def _named(*layers) -> Dict[str, Case]:
  """Args: layers: (name, shapes, keyword arguments)."""
  return {name: _layer(name, shapes, **kwargs) for name, shapes, kwargs in layers}


def _with_weights() -> Dict[str, Case]:
  conv = dict(filters=3, kernel_size=2)
  return _named(
      ('Dense', (VECTOR,), dict(units=3)),
      ('EinsumDense', (LINE,), dict(equation='abc,cd->abd', output_shape=(None, 4))),
      ('Embedding', (WORDS,), dict(input_dim=7, output_dim=3, inputs='words')),
      ('Embedding mask_zero', (WORDS,), dict(input_dim=7, output_dim=3, mask_zero=True,
                                             inputs='words')),
      ('ReversibleEmbedding', (WORDS,), dict(input_dim=7, output_dim=3, inputs='words')),
      ('Conv1D', (LINE,), conv), ('Conv2D', (IMAGE,), conv), ('Conv3D', (VOLUME,), conv),
      ('Conv1D causal', (LINE,), dict(padding='causal', dilation_rate=2, **conv)),
      ('Conv2D strides', (IMAGE,), dict(strides=2, padding='same', **conv)),
      ('Conv2D dilation', (IMAGE,), dict(dilation_rate=2, **conv)),
      ('Conv2D groups', (IMAGE,), dict(filters=4, kernel_size=2, groups=2)),
      ('Conv1DTranspose', (LINE,), conv), ('Conv2DTranspose', (IMAGE,), conv),
      ('Conv3DTranspose', (VOLUME,), conv),
      ('DepthwiseConv1D', (LINE,), dict(kernel_size=2)),
      ('DepthwiseConv2D', (IMAGE,), dict(kernel_size=2)),
      ('SeparableConv1D', (LINE,), conv), ('SeparableConv2D', (IMAGE,), conv),
      ('LocallyConnected1D', (LINE,), conv), ('LocallyConnected2D', (IMAGE,), conv),
      ('PReLU', (VECTOR,), {}))


def _recurrent() -> Dict[str, Case]:
  layers = tf.keras.layers
  found = _named(
      ('LSTM', (LINE,), dict(units=3)), ('GRU', (LINE,), dict(units=3)),
      ('SimpleRNN', (LINE,), dict(units=3)),
      ('LSTM unrolled', (LINE,), dict(units=3, unroll=True, return_sequences=True)),
      ('GRU reset_before', (LINE,), dict(units=3, reset_after=False)),
      ('ConvLSTM1D', ((3, 4, 2),), dict(filters=2, kernel_size=2)),
      ('ConvLSTM2D', (VIDEO,), dict(filters=2, kernel_size=2)),
      ('ConvLSTM3D', ((2, 3, 3, 3, 2),), dict(filters=2, kernel_size=2)),
      ('LSTM dropout', (LINE,), dict(units=3, dropout=0.3, recurrent_dropout=0.3,
                                     random=True)))
  found.update({
      'RNN of LSTMCell': Case(lambda: layers.RNN(layers.LSTMCell(3)), (LINE,)),
      'RNN of GRUCell': Case(lambda: layers.RNN(layers.GRUCell(3)), (LINE,)),
      'RNN of StackedRNNCells': Case(lambda: layers.RNN(layers.StackedRNNCells(
          [layers.SimpleRNNCell(3), layers.LSTMCell(2)])), (LINE,)),
      'Bidirectional': Case(lambda: layers.Bidirectional(layers.GRU(2)), (LINE,)),
      'TimeDistributed': Case(lambda: layers.TimeDistributed(layers.Conv2D(2, 2)),
                              (VIDEO,))})
  return found


def _attention() -> Dict[str, Case]:
  found = _named(
      ('Attention', (LINE, LINE), {}), ('AdditiveAttention', (LINE, LINE), {}))
  heads = tf.keras.layers.MultiHeadAttention
  found['MultiHeadAttention'] = Case(
      lambda: lambda query, value: heads(2, 3)(query, value), (LINE, LINE))
  found['GroupQueryAttention'] = Case(
      lambda: lambda query, value: tf.keras.layers.GroupQueryAttention(4, 4, 2)(query, value),
      (LINE, LINE))
  return found


def _norms() -> Dict[str, Case]:
  layers = tf.keras.layers
  found = _named(
      ('BatchNormalization rank 2', (VECTOR,), {}),
      ('BatchNormalization rank 3', (LINE,), {}),
      ('BatchNormalization rank 4', (IMAGE,), {}),
      ('BatchNormalization axis 1', (IMAGE,), dict(axis=1)),
      ('LayerNormalization', (VECTOR,), {}), ('LayerNormalization rank 4', (IMAGE,), {}),
      ('LayerNormalization axes', (IMAGE,), dict(axis=(1, 2, 3))),
      ('GroupNormalization', (IMAGE,), dict(groups=2)),
      ('UnitNormalization', (VECTOR,), {}), ('RMSNormalization', (VECTOR,), {}),
      ('Normalization', (VECTOR,), dict(mean=0.3, variance=1.7)))
  found['SpectralNormalization'] = Case(
      lambda: layers.SpectralNormalization(layers.Dense(3)), random=True)
  return found


def _pooling() -> Dict[str, Case]:
  shapes = {'1D': (LINE,), '2D': (IMAGE,), '3D': (VOLUME,)}
  names = ['MaxPooling', 'AveragePooling', 'GlobalMaxPooling', 'GlobalAveragePooling']
  # TensorFlow pools volumes in float32 alone.
  options = {'1D': {}, '2D': {}, '3D': dict(dtype='float32')}
  size = dict(pool_size=2)
  found = _named(*[(name + rank, shape,
                    {**options[rank], **({} if name.startswith('Global') else size)})
                   for name in names for rank, shape in shapes.items()],
                 ('MaxPooling2D same', (IMAGE,), dict(pool_size=3, strides=2,
                                                      padding='same')))
  found.update(_named(*[(f'Adaptive{kind}Pooling{rank}', shape,
                         dict(output_size=2, **options[rank]))
                        for kind in ('Max', 'Average') for rank, shape in shapes.items()]))
  return found


def _shapes() -> Dict[str, Case]:
  layers = [('Flatten', (IMAGE,), {}), ('Reshape', (LINE,), dict(target_shape=(9, 2))),
            ('Permute', (LINE,), dict(dims=(2, 1))), ('RepeatVector', (VECTOR,), dict(n=2)),
            ('Identity', (VECTOR,), {}), ('Masking', (LINE,), {}),
            ('ActivityRegularization', (VECTOR,), dict(l2=0.1)),
            ('UpSampling1D', (LINE,), {}), ('UpSampling2D', (IMAGE,), {}),
            ('UpSampling3D', (VOLUME,), {})]
  layers += [(f'UpSampling2D {method}', (IMAGE,), dict(interpolation=method))
             for method in ('bilinear', 'bicubic', 'lanczos3')]
  layers += [(f'{name}{rank}', shape, {}) for name in ('Cropping', 'ZeroPadding')
             for rank, shape in (('1D', (LINE,)), ('2D', (IMAGE,)), ('3D', (VOLUME,)))]
  found = _named(*layers)
  found['Lambda'] = Case(lambda: tf.keras.layers.Lambda(lambda x: x ** 2), (VECTOR,))
  return found


def _merging() -> Dict[str, Case]:
  names = ('Add', 'Subtract', 'Multiply', 'Average', 'Maximum', 'Minimum', 'Concatenate')
  return _named(*[(name, (VECTOR, VECTOR), {}) for name in names],
                ('Dot', (VECTOR, VECTOR), dict(axes=1)))


def _random() -> Dict[str, Case]:
  return _named(
      *[(name, (VECTOR,), dict(rate=0.3, random=True))
        for name in ('Dropout', 'AlphaDropout', 'GaussianDropout')],
      ('GaussianNoise', (VECTOR,), dict(stddev=0.3, random=True)),
      ('SpatialDropout1D', (LINE,), dict(rate=0.3, random=True)),
      ('SpatialDropout2D', (IMAGE,), dict(rate=0.3, random=True)),
      ('SpatialDropout3D', (VOLUME,), dict(rate=0.3, random=True)))


def _preprocessing() -> Dict[str, Case]:
  image = (IMAGE,)
  found = _named(
      ('Rescaling', image, dict(scale=0.5)), ('CenterCrop', image, dict(height=3, width=3)),
      ('Resizing', image, dict(height=3, width=9)),
      ('Resizing nearest', image, dict(height=3, width=9, interpolation='nearest')),
      ('Resizing area', image, dict(height=3, width=9, interpolation='area')),
      ('CategoryEncoding', (WORDS,), dict(num_tokens=7, inputs='words')),
      ('Discretization', (VECTOR,), dict(bin_boundaries=[-0.5, 0.5], inputs='fixed')),
      ('Hashing', (WORDS,), dict(num_bins=3, inputs='words')),
      ('IntegerLookup', (WORDS,), dict(vocabulary=[1, 2, 3], inputs='words')))
  augmentations = (
      ('RandomBrightness', dict(factor=0.2, value_range=(-9, 9))),
      ('RandomContrast', dict(factor=0.2)),
      ('RandomCrop', dict(height=3, width=3)), ('RandomFlip', {}),
      ('RandomRotation', dict(factor=0.1)),
      ('RandomTranslation', dict(height_factor=0.1, width_factor=0.1)),
      ('RandomZoom', dict(height_factor=0.1)))
  found.update(_named(*[(name, image, dict(random=True, dtype='float32', **kwargs))
                        for name, kwargs in augmentations]))
  return found


def _activations() -> Dict[str, Case]:
  names = ('elu', 'exponential', 'gelu', 'hard_sigmoid', 'linear', 'mish', 'relu', 'selu',
           'sigmoid', 'softmax', 'softplus', 'softsign', 'swish', 'tanh', 'celu', 'glu',
           'hard_shrink', 'hard_silu', 'hard_tanh', 'leaky_relu', 'log_sigmoid',
           'log_softmax', 'relu6', 'soft_shrink', 'sparse_plus', 'sparse_sigmoid',
           'sparsemax', 'squareplus', 'tanh_shrink')
  found = {f'activation {name}': Case(lambda name=name: tf.keras.layers.Activation(name),
                                      ((6,),))
           for name in names if hasattr(tf.keras.activations, name)}
  found.update(_named(*[(name, (VECTOR,), {}) for name in (
      'ELU', 'LeakyReLU', 'ReLU', 'Softmax', 'ThresholdedReLU')],
                      ('Activation', (VECTOR,), dict(activation='tanh'))))
  return found


def losses() -> Dict[str, Tuple[str, str]]:
  """{name: (kind of labels, of outputs)} of what this version of Keras has."""
  found = {
      **dict.fromkeys(('MeanSquaredError', 'MeanAbsoluteError', 'Huber', 'LogCosh',
                       'CosineSimilarity'), ('floats', 'floats')),
      **dict.fromkeys(('MeanAbsolutePercentageError', 'MeanSquaredLogarithmicError',
                       'Poisson', 'KLDivergence', 'Dice', 'Tversky'),
                      ('probabilities', 'probabilities')),
      **dict.fromkeys(('BinaryCrossentropy', 'BinaryFocalCrossentropy',
                       'CategoricalCrossentropy', 'CategoricalFocalCrossentropy'),
                      ('one hot', 'probabilities')),
      'CategoricalGeneralizedCrossEntropy': ('classes', 'probabilities'),
      **dict.fromkeys(('Hinge', 'SquaredHinge', 'CategoricalHinge'), ('one hot', 'floats')),
      'SparseCategoricalCrossentropy': ('classes', 'probabilities'),
      'Circle': ('classes', 'unit')}
  return {name: kinds for name, kinds in found.items() if hasattr(tf.keras.losses, name)}


# {name: why it has no row}. Names of the same class (Conv2D, Convolution2D) have one row.
NOT_MEASURED = {
    **dict.fromkeys(('Layer', 'Wrapper', 'AbstractRNNCell', 'InputLayer', 'InputSpec',
                     'Pipeline'), 'computes nothing itself'),
    **dict.fromkeys(('LSTMCell', 'GRUCell', 'SimpleRNNCell', 'StackedRNNCells', 'RNN'),
                    'in the rows of RNN'),
    **dict.fromkeys(('FlaxLayer', 'JaxLayer', 'TorchModuleWrapper', 'TFSMLayer'),
                    'other people\'s computations'),
    **dict.fromkeys(('DenseFeatures', 'HashedCrossing', 'StringLookup', 'TextVectorization',
                     'MelSpectrogram', 'STFTSpectrogram', 'MaxNumBoundingBoxes'),
                    'of strings, features or sounds: before the net'),
    **dict.fromkeys(('RandomHeight', 'RandomWidth', 'AugMix', 'AutoContrast', 'CutMix',
                     'ContrastLimitedAdaptiveHistogramEqualization', 'Equalization', 'MixUp',
                     'RandAugment', 'RandomColorDegeneration', 'RandomColorJitter',
                     'RandomElasticTransform', 'RandomErasing', 'RandomGaussianBlur',
                     'RandomGrayscale', 'RandomHue', 'RandomInvert', 'RandomPerspective',
                     'RandomPosterization', 'RandomSaturation', 'RandomSharpness',
                     'RandomShear', 'Solarization'),
                    'changes images or labels: before the net'),
    **dict.fromkeys(('Loss', 'Reduction'), 'computes nothing itself'),
    'CTC': 'refused'}
