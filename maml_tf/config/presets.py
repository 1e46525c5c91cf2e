"""The paper's values for a problem, its ways and shots, and a method."""

from __future__ import annotations

from typing import Any, Dict, Optional

from maml_tf import problems
from maml_tf.config.choices import require_choice
from maml_tf.config.fits import WITHOUT_OWNERS
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, known_method

# What a problem does not say otherwise. The paper's Omniglot, and its test protocol.
COMMON: Dict[str, Any] = dict(
    data_dir=None, update_batch_size=1, train_query_size=None, test_query_size=None, seed=0,
    model='paper', norm='batch_norm', num_filters=64, conv=True, max_pool=False,
    dtype='float32', mixed_precision=False, update_lr=0.4, num_updates=1, stop_grad=False,
    meta_lr_schedule='constant', baseline='None', regulariser_weight=0.0,
    pretrain_iterations=0, metatrain_iterations=60000, meta_batch_size=32, meta_lr=0.001,
    meta_optimizer='adam', meta_gradient_clip=0.0, tasks_at_once=0,
    recompute_inner_steps=False, xla='auto', validation_interval=500,
    num_validation_tasks=200, test_set=False, test_iter=-1, test_checkpoint='latest',
    num_test_tasks=600, test_num_updates=10, train_update_batch_size=-1, train_update_lr=-1.0,
    tune_update_lr=False, train=True, resume=True, log=True, legacy_checkpoint=None,
    pretrained=None, distribution_strategy='off', num_gpus=-1, worker_hosts=None,
    task_index=-1, worker_timeout=300, **WITHOUT_OWNERS)

# {method: what it has of its own, whatever the problem}.
_OF_METHODS: Dict[str, Dict[str, Any]] = {
    # One inner step, as in Li et al. 2017.
    'meta_sgd': dict(num_updates=1),
    # Antoniou et al. 2019: 100 epochs of 500 iterations; losses of all updates in the first
    # 15, first order in the first 50.
    'maml_plus_plus': dict(
        learned_step_sizes='layer_and_step', multi_step_iterations=7500,
        first_order_iterations=25000, per_step_norm=True, meta_lr_schedule='cosine',
        metatrain_iterations=50000, num_updates=5, test_num_updates=5),
    # This project's, on the scale of its loss: lambda * alpha must be well below 2.
    'imaml': dict(proximal_weight=2.0, imaml_cg_iterations=5, update_lr=0.1, num_updates=16,
                  test_num_updates=16),
    # Nichol et al. 2018, and the commands in the authors' README for images; support and
    # query examples together are their training shots. Sinusoids are this project's.
    'reptile': dict(
        inner_optimizer='adam', inner_batch_size=10, update_lr=0.001, num_updates=5,
        meta_optimizer='sgd', meta_lr=1.0, meta_lr_schedule='linear', meta_gradient_clip=0.0,
        meta_batch_size=5, metatrain_iterations=100000, test_num_updates=50,
        test_inner_batch_size=5),
}


_OF_METHODS.update({
    method: dict(update_lr=0.0, num_updates=0, test_num_updates=0, meta_gradient_clip=0.0)
    for method in WITHOUT_INNER_LOOP})


def preset(datasource: str, num_classes: Optional[int] = None,
           update_batch_size: Optional[int] = None, method: str = 'maml',
           data_dir: Optional[str] = None) -> Dict[str, Any]:
  """The paper's values for a data source, a number of classes and of shots.

  Args:
    datasource: the name of a problem.
    num_classes: N; None: 5, or as many as the data have.
    update_batch_size: K; None: 5 for sinusoids, 1 for images.
    method: one of `METHODS`.
    data_dir: folder with the data, of whose shape the values may be; None: whatever they
      are.

  Returns:
    {field name: value}, complete: `from_values` accepts it as it is.

  Source: sections 5.1, 5.2 and A.1 of the paper, and where the paper is silent
  the TF1 code's commands and defaults: sinusoid step size 0.001 and 15,000
  iterations (the code's defaults; its 10-shot command has 70,000), gradient
  clipping for mini-ImageNet, the meta-learning rate. Other methods have MAML's values, and
  of their own what `_OF_METHODS` and the problem say; the settings of their papers' rows are
  in the flagfiles. The step size of ANIL on sinusoids and the size of the context are this
  project's.

  Raises:
    ConfigError: for an unknown data source or method.
  """
  require_choice('datasource', datasource)
  require_choice('method', method)
  problem = problems.named(datasource)
  if data_dir is not None:
    problem = problem.with_data(data_dir)
  ways = problem.usual_ways if num_classes is None else num_classes
  known = known_method(method)
  values = {**COMMON, 'datasource': datasource, 'num_classes': ways, 'method': method,
            'logdir': f'logs/{datasource}', **problem.preset(ways, update_batch_size)}
  values.update(_OF_METHODS.get(known, {}))
  values.update(problem.method_preset(known, ways, values['update_batch_size']))
  for query_size in ('train_query_size', 'test_query_size'):
    if values[query_size] is None:
      values[query_size] = values['update_batch_size']
  return values
