"""The configuration of a golden file: what its TF1 flags mean here."""

from __future__ import annotations

from maml_tf.config import Config, ConfigError, resolve
from maml_tf.legacy.golden import LEGACY_DEFAULTS, LEGACY_OTHERS, Golden, GoldenError

LEGACY_CLIP = {'miniimagenet': 10.0}


def config_of(golden: Golden, **overrides) -> Config:
  """The configuration that the file's TF1 flags describe.

  Flags that the file does not name have the TF1 code's defaults, not this project's:
  batch norm for sinusoids too, 64 filters and no max-pool for mini-ImageNet. What TF1
  ignored is left out: convolutions of a sinusoid, pooling without convolutions.

  Args:
    golden: the file.
    **overrides: fields of `maml_tf.config`, like `dtype`.

  Raises:
    GoldenError: for flags that the TF1 code does not have, or could not run with.
  """
  given = {**LEGACY_DEFAULTS, **golden.flags}
  given = {name: value for name, value in given.items() if name not in LEGACY_OTHERS}
  datasource = given['datasource']
  for name in ('baseline', 'norm'):
    given[name] = 'None' if given[name] in (None, '') else given[name]
  if datasource == 'sinusoid':
    given['conv'] = False
  if given['conv'] is False:
    given['max_pool'] = False
    del given['num_filters']   # which the TF1 code ignores there
  tasks, examples = golden.steps[0].query_labels.shape[:2]
  ways = golden.steps[0].query_labels.shape[2] if datasource != 'sinusoid' else 1
  queries = max(1, examples // max(1, ways))
  given.update(
      meta_batch_size=tasks, train_query_size=queries, test_query_size=queries,
      meta_gradient_clip=LEGACY_CLIP.get(str(datasource), 0.0),
      train=False, test_set=True)
  given.update(overrides)
  if given['baseline'] == 'oracle':
    # A golden file's oracle is a net of three inputs, meta-trained like the others.
    given.update(pretrain_iterations=0, metatrain_iterations=0)
  try:
    config = resolve(given)
  except ConfigError as error:
    raise GoldenError(f'{golden.path} has flags that cannot be run: {error}') from error
  if is_classification(config) and config.task.num_classes != ways:
    raise GoldenError(f'{golden.path} has labels of {ways} classes, and its flags say '
                      f'num_classes={config.task.num_classes}.')
  return config


def is_classification(config: Config) -> bool:
  """Whether the TF1 code's labels are one-hot: of all that is no sinusoid."""
  return config.task.datasource != 'sinusoid'
