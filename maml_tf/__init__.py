"""Model-Agnostic Meta-Learning (Finn, Abbeel, Levine, ICML 2017) in TensorFlow 2.

What is listed here may be relied on; everything else may move. TensorFlow is loaded when
a name that needs it is asked for.

  Tasks       Episodes, Batch, as_episodes, DataGenerator, EpisodeSource, SinusoidSource
  Nets        Learner, ParameterSpec, FullyConnected, Convolutional, WithContext
  Objectives  Objective, MeanSquaredError, ScaledCrossEntropy, MeanCrossEntropy, Measure
  Methods     MAML, MAMLPlusPlus, MetaSGD, ANIL, BOIL, IMAML, Reptile, ContextVector,
              Prototypical, Matching, Siamese, MetaLearner, TaskResults
  By hand     adaptation, sgd, adam
  One's own   KerasLearner, KerasObjective, tasks_from_arrays, tasks_from_folder,
              tasks_from_function; MAML takes a Keras model and a Keras loss as they are

Example:
  >>> import tensorflow as tf
  >>> import maml_tf
  >>> net = maml_tf.FullyConnected(1, (40, 40), 1, norm='None')
  >>> model = maml_tf.MAML(net, maml_tf.MeanSquaredError(), step_size=0.01, num_updates=1)
  >>> model.compile(tf.keras.optimizers.Adam(0.001))
  >>> tasks = maml_tf.DataGenerator(maml_tf.SinusoidSource(5, 5), meta_batch_size=4, seed=0)
  >>> history = model.fit(tasks.dataset(0, 3), verbose=0, shuffle=False)
  >>> results = model.task_results(tasks.batch(3), num_updates=5)
  >>> results.query['loss'].shape
  TensorShape([4, 6])
"""

from __future__ import annotations

from maml_tf.lazily import imported

__version__ = '1.0.0'

_HOMES = {   # {name: its module}
    'ANIL': 'meta_learners.anil',
    'BOIL': 'meta_learners.boil',
    'Batch': 'episodes',
    'ContextVector': 'meta_learners.context_vector',
    'Convolutional': 'learners',
    'DataGenerator': 'data_generator',
    'EpisodeSource': 'sources.source',
    'Episodes': 'episodes',
    'FullyConnected': 'learners',
    'IMAML': 'meta_learners.imaml',
    'KerasLearner': 'keras_models.learner',
    'KerasObjective': 'keras_models.objective',
    'Learner': 'learners',
    'MAML': 'meta_learners.maml',
    'MAMLPlusPlus': 'meta_learners.maml_plus_plus',
    'Matching': 'meta_learners.matching',
    'MeanCrossEntropy': 'objectives',
    'MeanSquaredError': 'objectives',
    'Measure': 'measures',
    'MetaLearner': 'meta_learner',
    'MetaSGD': 'meta_learners.meta_sgd',
    'Objective': 'objectives',
    'ParameterSpec': 'learners',
    'Prototypical': 'meta_learners.prototypical',
    'Reptile': 'meta_learners.reptile',
    'ScaledCrossEntropy': 'objectives',
    'Siamese': 'meta_learners.siamese',
    'SinusoidSource': 'sources.sinusoid',
    'TaskResults': 'task_results',
    'WithContext': 'learners',
    'adam': 'inner_optimizers',
    'adaptation': 'inner_loop',
    'as_episodes': 'episodes',
    'sgd': 'inner_optimizers',
    'tasks_from_arrays': 'sources.arrays',
    'tasks_from_folder': 'sources.arrays',
    'tasks_from_function': 'sources.arrays',
}

__all__ = list(_HOMES)   # noqa: PLE0604
__getattr__, __dir__ = imported(__name__, _HOMES)
