"""The paper's convolutional net written in Keras, and its speed beside `Convolutional`.

  python -m maml_tf.keras_models.paper_net

One meta-gradient of 32 tasks of 5-way 1-shot Omniglot's shape, both nets in turn, with one
thread for each operation and the tasks side by side.
"""

from __future__ import annotations

import time
from typing import Dict, List

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners import Convolutional
from maml_tf.learners.normalisation import BATCH_NORM_EPSILON
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import ScaledCrossEntropy
from maml_tf.task_groups import available_cores

IMAGE, FILTERS, WAYS, TASKS = (28, 28, 1), 64, 5, 32
ROUNDS = 12


def paper_net(image=IMAGE, filters: int = FILTERS, ways: int = WAYS) -> tf.keras.Model:
  """Omniglot's: four blocks of a convolution of stride 2, batch norm without a scale, ReLU;
  a linear layer on the mean over the last map."""
  layers = tf.keras.layers
  model = tf.keras.Sequential([layers.Input(image)])
  for _ in range(4):
    model.add(layers.Conv2D(filters, 3, strides=2, padding='same', use_bias=False))
    model.add(layers.BatchNormalization(scale=False, epsilon=BATCH_NORM_EPSILON))
    model.add(layers.ReLU())
  model.add(layers.GlobalAveragePooling2D())
  model.add(layers.Dense(ways))
  return model


def build(input_shape, outputs: int) -> tf.keras.Model:
  """For `--model=maml_tf/keras_models/paper_net.py:build`."""
  return paper_net(input_shape, ways=outputs)


def as_in_the_paper(model: tf.keras.Model) -> KerasLearner:
  """The offsets of batch norm are meta-learned and not adapted."""
  offsets = {id(layer.beta) for layer in model.layers
             if isinstance(layer, tf.keras.layers.BatchNormalization)}
  return KerasLearner(model, adapt=lambda variable: id(variable) not in offsets)


def seconds() -> Dict[str, List[float]]:
  """{net: of each of some meta-gradients, the first left out}."""
  objective = ScaledCrossEntropy(1)
  common = dict(step_size=0.4, num_updates=1)
  net = Convolutional(IMAGE, FILTERS, WAYS, 'batch_norm', max_pool=False, spatial_mean=True)
  models = {'Convolutional': MAML(net, objective, cores=available_cores(), **common),
            'Keras': MAML(as_in_the_paper(paper_net()), objective, **common)}
  random = np.random.RandomState(0)
  inputs = tf.constant(random.uniform(size=(TASKS, WAYS, *IMAGE)), tf.float32)
  labels = tf.constant(np.tile(np.arange(WAYS), (TASKS, 1)), tf.int32)
  episodes = Episodes.of(inputs, labels, inputs, labels)
  steps = {name: tf.function(lambda model=model: model.meta_gradient(episodes),
                             autograph=False) for name, model in models.items()}
  times: Dict[str, List[float]] = {name: [] for name in steps}
  for _ in range(ROUNDS + 1):
    for name, step in steps.items():
      start = time.perf_counter()
      means, _ = step()
      means['loss'].numpy()   # a GPU is not done when the call returns
      times[name].append(time.perf_counter() - start)
  return {name: values[1:] for name, values in times.items()}


def figures() -> Dict[str, float]:
  """Medians, by their names in `maml_tf.benchmark`."""
  net, keras = (1000 * float(np.median(values)) for values in seconds().values())
  return {'net_ms_median': net, 'keras_ms_median': keras, 'keras_over_net': keras / net}


def main() -> None:
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(available_cores())
  net, keras, ratio = figures().values()
  print(f'Convolutional: {net / 1000:.3f} s')
  print(f'Keras: {keras / 1000:.3f} s')
  print(f'Keras / Convolutional: {ratio:.2f}')


if __name__ == '__main__':
  main()
