"""The flags of `main.py`: one for each field of `maml_tf.config`, and their help.

Names, types and meanings are those of the TF1 code wherever it has the flag.
Every flag defaults to None: "the paper's value for that data source and number
of classes", which `maml_tf.config.preset` knows. The help text asks it, too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from absl import flags as absl_flags

from maml_tf import config, problems
from maml_tf.meta_learners import LARGEST_COSINE_SCALE, WITHOUT_INNER_LOOP
from maml_tf.problems.sinusoid import REGULARISER_WEIGHTS
from maml_tf.rl.settings import BUDGETS, HESSIANS, INNER_LOSSES

_WIDTH = 80

# {section of the configuration: (title, {flag: meaning})}.
MEANINGS: dict[str, tuple[str, dict[str, str]]] = {
    'task': ('Task: data source, ways and shots', {
        'datasource': f'What the tasks are made of: {", ".join(problems.names())}.',
        'data_dir': 'Folder with the prepared data. Sinusoids and environments need none.',
        'num_classes':
            'Classes per task (ways, N), 2 or more, and no more than the split has: '
            'Omniglot 1100 train, 100 val, 423 test; mini-ImageNet 64, 16, 20; your own '
            'images as prepared. Without meaning for sinusoids and environments.',
        'train_num_classes':
            f'With --method={", ".join(WITHOUT_INNER_LOOP)}: classes per task in training, '
            '2 or more; -1: the value of --num_classes.',
        'update_batch_size':
            'Examples per class for the inner update (shots, K), 1 or more; for a '
            'sinusoid, points per task; in an environment, rollouts per task.',
        'train_query_size':
            'Examples per class for the meta-update, in training, 1 or more.',
        'test_query_size':
            'Examples per class for measuring, in validation and testing, 1 or more; in an '
            'environment, rollouts per test task before each update, each of full length.',
        'seed': 'Of the episodes and of the initialisation, 0 or more.',
    }),
    'learner': ('Net', {
        'model': f'{", ".join(config.MODELS)}, or FILE.py:NAME: a function (input_shape, '
                 'outputs) of your own that makes a Keras model without a softmax at its '
                 'end.',
        'norm': f'Normalisation of the hidden layers: {", ".join(config.NORMS)}.',
        'num_filters': 'Filters of each convolution, 1 or more. The paper has 64 for '
                       'Omniglot and 32 for mini-ImageNet.',
        'conv': 'Convolutions (images only). False: the fully connected net.',
        'max_pool': 'Max-pooling instead of strides. mini-ImageNet needs it; without '
                    'convolutions the default is False.',
        'dtype': f'Precision of weights and computations: {", ".join(config.DTYPES)}.',
        'mixed_precision': 'Convolutions and matrix products in bfloat16, all else in '
                           'float32. Pays where the hardware has bfloat16 products.',
        'context_size':
            'With --method=context_vector: channels of the context that is put behind '
            'the image, or for sinusoids entries behind x, 1 or more.',
        'full_context':
            'With --method=matching: full context embeddings, by which the features of an '
            'image depend on the support set.',
        'cosine_scale':
            'With --method=matching: what the cosines of features are multiplied by, above 0, '
            f'{LARGEST_COSINE_SCALE} at most. Its paper has 1, with which it learns slowly.',
        'distance_scale':
            'With --method=prototypical: what the squared distances of features are '
            'multiplied by, above 0. Its paper has 1, with which nets of many features learn '
            'slowly.',
    }),
    'inner_loop': ('Inner loop: adaptation to one task', {
        'update_lr': 'Step size of the inner update (alpha), above 0.',
        'num_updates': 'Inner updates per task in training, 1 or more.',
        'stop_grad': 'First-order approximation: no second derivatives.',
        'inner_optimizer': 'With --method=reptile: optimizer of the inner update, '
                           f'{", ".join(config.INNER_OPTIMIZERS)}.',
        'inner_batch_size': 'With --method=reptile: examples per inner update in '
                            'training, 1 or more; 0: all.',
        'learned_step_sizes':
            f'With --method=maml, boil, maml_plus_plus: '
            f'{", ".join(config.LEARNED_STEP_SIZES)}. What has a step size of its own that '
            'is learned with the parameters, from --update_lr on: a layer, a layer in each '
            'update, an element of a parameter.',
        'proximal_weight': 'With --method=imaml: how strongly the inner loop is held near '
                           'the initialisation (lambda), above 0.',
        'imaml_cg_iterations': 'With --method=imaml: iterations of conjugate gradients, 1 or '
                               'more.',
        'multi_step_iterations':
            'With --method=maml_plus_plus: in so many first iterations the losses after all '
            'updates count, the less the later it is; 0: the last one alone.',
        'first_order_iterations': 'With --method=maml_plus_plus: so many first iterations '
                                  'are of first order; 0: none.',
        'per_step_norm': 'With --method=maml_plus_plus: offsets and scales of '
                         'normalisations of their own after each update.',
    }),
    'training': ('Training', {
        'method': f'Meta-learner: {", ".join(config.METHODS)}; or FILE.py:CLASS, one of '
                  'your own, with the flags of the one that it is derived from.',
        'baseline': 'oracle: a net that is given amplitude and phase of a sinusoid, or a '
                    'policy that sees the goal. pretrained: a policy trained over random '
                    'tasks. random: a policy that is not trained. '
                    'averaged: the mean of the parameters of nets that each learned one '
                    'sinusoid. fine_tuning, nearest_neighbour: a classifier of all '
                    'training classes (images only), whose last layer is replaced and '
                    'fine-tuned, or in whose features the nearest support image is '
                    'found. None: no baseline.',
        'num_averaged_nets': 'With --baseline=averaged: how many nets, 1 or more.',
        'averaged_regulariser':
            f'With --baseline=averaged, of its nets: {", ".join(config.REGULARISERS)}. '
            'mean: towards the mean of the nets before it.',
        'regulariser_weight': 'Weight of the regulariser, above 0; 0 without one.',
        'pretrain_iterations': 'Iterations of ordinary training on all tasks, before '
                               'meta-training, 0 or more.',
        'metatrain_iterations': 'Iterations of meta-training, 0 or more.',
        'meta_batch_size': 'Tasks per meta-update, 1 or more; with --baseline=averaged '
                           'points of each net, with fine_tuning and nearest_neighbour '
                           'images per update.',
        'meta_lr': 'Step size of the meta-update (beta), above 0.',
        'meta_lr_schedule': 'constant; linear, cosine: falling to 0 over the iterations of '
                            'meta-training; halving: halved again and again.',
        'meta_lr_half_life': 'With --meta_lr_schedule=halving: iterations after which the '
                             'step size is halved, 1 or more.',
        'meta_optimizer':
            f'Optimizer of the meta-update: {", ".join(config.KERAS_OPTIMIZERS)}; with '
            f'TensorFlow Addons also {", ".join(config.ADDONS_OPTIMIZERS)}; where a policy '
            f'acts {config.TRUST_REGION}, too.',
        'meta_gradient_clip': 'Each element of the meta-gradient is clipped to this '
                              'size, above 0; 0: no clipping.',
        'tasks_at_once': 'Tasks in memory together, 1 or more, divided among the cores of a '
                         'CPU: fewer take less memory; 0: chosen for the tasks.',
        'recompute_inner_steps': 'Compute each inner step a second time in the backward '
                                 'pass instead of keeping it: less memory, more time.',
        'xla': f'Compilation with XLA: {", ".join(config.XLA_CHOICES)}.',
        'validation_interval': 'Iterations between two validations, 1 or more.',
        'num_validation_tasks': 'Tasks of each validation, 1 or more.',
    }),
    'control': ('Reinforcement learning: a datasource in whose tasks a policy acts', {
        'env': 'With --datasource=gym: FILE.py:CLASS, a gymnasium.Env with sample_tasks(n) '
               'and set_task(task).',
        'horizon': "Most steps of an episode, 1 or more; 0: the environment's own.",
        'discount': 'Of rewards (gamma), from 0 to 1.',
        'gae_lambda': 'Of generalised advantages, from 0 to 1; 1: plain returns.',
        'pretrain_rollouts': 'In pre-training, of each task, which are judged among '
                             'themselves then; 0: one of each, all judged together.',
        'max_kl': 'Bound of the KL divergence of an outer step (delta), above 0.',
        'cg_iterations': 'Of the conjugate gradients of an outer step, 1 or more.',
        'cg_damping': "Added to the Hessian's diagonal, 0 or more.",
        'hessian': f'Products with the Hessian: {", ".join(HESSIANS)} (the difference that '
                   'the original code takes).',
        'hessian_every': 'These products see every so-manieth sample, 1 or more.',
        'rollout_budget': f'Of training: {", ".join(BUDGETS)}. steps: whole rollouts until '
                          'each task has as many steps as --update_batch_size full ones; '
                          'in pre-training, of further tasks, until all have together.',
        'inner_loss': f'{", ".join(INNER_LOSSES)}. ratio: with the part of the second '
                      'derivative that the likelihood loses.',
        'test_later_step': 'Of --update_lr, in updates of a test beyond --num_updates.',
        'simulation_threads': 'That simulate side by side, 1 or more; 0: one for each core.',
        'simulation_processes': 'With --datasource=gym: processes that step the environment, '
                                '1 or more; 0: one for each core.',
    }),
    'evaluation': ('Testing', {
        'test_set': 'True: test on the test classes. False: on the validation classes.',
        'test_iter': 'Test the checkpoint of this iteration, 0 or more, with '
                     '--train=False; -1: the one that --test_checkpoint names.',
        'test_checkpoint': 'latest: the last checkpoint. best: the one with the best '
                           'validation score.',
        'num_test_tasks': 'Tasks to test on, 2 or more.',
        'test_num_updates': 'Inner updates in testing, 1 or more. The results are '
                            'given after each of them.',
        'test_inner_batch_size': 'With --method=reptile: examples per inner update in '
                                 'validation and testing, 1 or more; 0: all.',
        'train_update_batch_size':
            'With --train=False: the --update_batch_size that the checkpoint was '
            'trained with, where another is tested; -1: the same. With '
            '--baseline=fine_tuning and nearest_neighbour while training, too: the shots '
            'of the validation tasks that choose the checkpoint.',
        'train_update_lr':
            'With --train=False: the --update_lr that the checkpoint was trained with, '
            'where another is tested; -1: the same.',
        'tune_update_lr':
            'Test with the step size of the inner update that does best on '
            '--num_validation_tasks validation tasks, and say which.',
    }),
    'run': ('Run', {
        'train': 'True: train, then test. False: only test.',
        'resume': 'Go on from the latest checkpoint, if there is one.',
        'log': 'Write summaries for TensorBoard.',
        'logdir': 'Folder for the runs: each gets its own folder in it, named after '
                  'its values.',
        'legacy_checkpoint':
            'A checkpoint of the TF1 code, FOLDER/modelITERATION. With --train=False it '
            'is tested; in training a new run starts from its parameters.',
        'pretrained':
            'Weights kept in results/: ROW or ROW:SEED (python -m maml_tf.verify lists '
            'the rows; without :SEED the smallest there is), or a file of such weights, '
            'FOLDER/seed0.npz. With --train=False they are tested; in training a new run '
            'starts from them. The other flags describe the net, so give the '
            "row's --flagfile, too.",
        'distribution_strategy':
            f'Who computes the tasks of a meta-batch: {", ".join(config.STRATEGIES)}. '
            'mirrored: the GPUs of this machine. multi_worker_mirrored: several processes, '
            'each with the GPUs of its machine. auto: mirrored where there is more than '
            'one GPU. off: one device.',
        'num_gpus': 'How many of the GPUs of this machine; 0: the CPU computes; -1: all.',
        'worker_hosts':
            'With multi_worker_mirrored: HOST:PORT of each process, with commas between, '
            'the same for all. Worker 0, the first, is the one that writes files. TF_CONFIG '
            'in the environment wins over it; srun of Slurm needs neither.',
        'task_index': 'The place of this process among them, from 0; -1: from the '
                      'environment (TF_CONFIG, Slurm, an indexed job of Kubernetes).',
        'worker_timeout': 'Seconds to wait for the other processes at the start, 1 or more.',
    }),
}

# Defaults that follow from another flag, which the presets cannot show.
_DEFAULTS_IN_WORDS = {
    'datasource': 'sinusoid',
    'data_dir': 'data/DATASOURCE',
    'num_classes': '5; images as many as each of their splits has, 5 at most',
    'env': 'none',
    'train_query_size': 'the value of --update_batch_size; miniimagenet 15; with '
                        '--method=reptile what makes 50 examples of a sinusoid, or 10 of '
                        'a class (miniimagenet 15); images as miniimagenet, or what '
                        'their classes have',
    'test_query_size': 'the value of --update_batch_size',
    'train_update_lr': '-1',
    'logdir': 'logs/DATASOURCE; images logs/NAME of the folder with the data',
    'legacy_checkpoint': 'none',
    'pretrained': 'none',
    'worker_hosts': 'none',
    'regulariser_weight': '0; with l2 '
                          f'{REGULARISER_WEIGHTS["l2"]}, with mean '
                          f'{REGULARISER_WEIGHTS["mean"]}',
}

# {type in the configuration: (parser, what it accepts, placeholder in the help)}.
_TYPES = {
    'bool': (absl_flags.BooleanParser, 'True or False', 'BOOL'),
    'int': (absl_flags.IntegerParser, 'a whole number', 'INT'),
    'float': (absl_flags.FloatParser, 'a number', 'NUMBER'),
    'str': (absl_flags.ArgumentParser, 'a text', 'NAME'),
    'Optional[str]': (absl_flags.ArgumentParser, 'a text', 'NAME'),
}
_PLACEHOLDERS = {'data_dir': 'FOLDER', 'logdir': 'FOLDER', 'legacy_checkpoint': 'PATH',
                 'pretrained': 'ROW', 'worker_hosts': 'HOSTS'}

USAGE = """\
Model-agnostic meta-learning (MAML): trains on the tasks of one data source,
then tests.

usage: python main.py [--FLAG=VALUE ...]

  python main.py --datasource=sinusoid
  python main.py --flagfile=flags/omniglot_5way_1shot.flags
  python main.py --flagfile=flags/omniglot_5way_1shot.flags --train=False
  python main.py --datasource=omniglot --num_classes=20 --seed=1
  python main.py --datasource=omniglot --method=anil

A flag that is left out has the MAML paper's value for the data source and the
number of classes and shots; the settings of other methods' papers are in their
files in flags/. Of two values for a flag, the last counts. Flags that are
True or False are written --max_pool, --max_pool=True, --nomax_pool or
--max_pool=False, but not `--max_pool False`.

  --flagfile=FILE
      Read flags from a file, one --FLAG=VALUE a line; a line that starts with #
      is a comment. flags/ has a file for each experiment of the paper.
  --help, -h
      Show this text.
  --version
      Show the version of this project, and of Python.
"""


class _Flag(absl_flags.Flag):
  """An absl flag which says what it received and what it allows."""

  def __init__(self, name: str, written_type: str, meaning: str):
    parser, self._wanted, _ = _TYPES[written_type]
    self._is_text = parser is absl_flags.ArgumentParser
    super().__init__(parser(), absl_flags.ArgumentSerializer(), name, None, meaning,
                     boolean=written_type == 'bool')

  def parse(self, argument) -> None:
    if self._is_text and argument.startswith('--'):
      # `--logdir --train=False` would train, and write to a folder '--train=False'.
      raise config.ConfigError(f'--{self.name} lacks a value: it is followed by the flag '
                               f'{argument}.')
    try:
      super().parse(argument)
    except absl_flags.IllegalFlagValueError:
      raise config.ConfigError(f'--{self.name}={argument} is not allowed: it must be '
                               f'{self._wanted}.') from None


def names() -> list[str]:
  """The names of all flags, in the order of the help."""
  return [name for _, meanings in MEANINGS.values() for name in meanings]


def boolean_names() -> list[str]:
  """The names of the flags that also exist as --noNAME."""
  types = config.field_types()
  return [name for name in names() if types[name] == 'bool']


def define() -> absl_flags.FlagValues:
  """All flags, unset, in an object of their own: absl's global one stays as it is."""
  values = absl_flags.FlagValues()
  types = config.field_types()
  for section, (_, meanings) in MEANINGS.items():
    for name, meaning in meanings.items():
      absl_flags.DEFINE_flag(_Flag(name, types[name], meaning), values, section)
  values.set_gnu_getopt(True)   # flags after a stray argument are still read
  return values


def help_text() -> str:
  """What `--help` prints: usage, then every flag under the title of its section."""
  types = config.field_types()
  blocks = [USAGE]
  for title, meanings in MEANINGS.values():
    lines = [title]
    for name, meaning in meanings.items():
      lines += _flag_help(name, types[name], meaning)
    blocks.append('\n'.join(lines) + '\n')
  return '\n'.join(blocks)


def _flag_help(name: str, written_type: str, meaning: str) -> list[str]:
  if written_type == 'bool':
    head = f'  --[no]{name}'
  else:
    head = f'  --{name}={_PLACEHOLDERS.get(name, _TYPES[written_type][2])}'
  wrapper = textwrap.TextWrapper(_WIDTH, initial_indent=' ' * 6,
                                 subsequent_indent=' ' * 6, break_on_hyphens=False)
  return [head, *wrapper.wrap(meaning),
          *wrapper.wrap(f'Default: {_default_in_words(name)}')]


def _default_in_words(name: str) -> str:
  """The presets of a flag, e.g. 'sinusoid 25; omniglot 32 (20 classes or more: 16)'."""
  if name in _DEFAULTS_IN_WORDS:
    return _DEFAULTS_IN_WORDS[name]
  control = name in config.section_fields('control')
  usual = {datasource: config.preset(datasource)[name] for datasource in problems.names()
           if problems.named(datasource).acts or not control}
  by_words: dict[str, list[str]] = {}
  for datasource, value in usual.items():
    words = str(value)
    for condition, ways, shots in problems.named(datasource).special_presets:
      other = config.preset(datasource, ways, shots)[name]
      if other != value:
        words += f' ({condition}: {other})'
    by_words.setdefault(words, []).append(datasource)
  if len(by_words) == 1 and '(' not in next(iter(by_words)):
    words = list(by_words)
  else:
    words = [f'{_together(names)} {value}' for value, names in by_words.items()]
  return '; '.join(words + _defaults_of_methods(name, usual)
                   + _defaults_of_baselines(name, usual))


def _together(names: Sequence[str]) -> str:
  """The problems, those in which a policy acts under one name where they are all there."""
  control = [name for name in problems.names() if problems.named(name).acts]
  if not set(control) <= set(names):
    return ', '.join(names)
  return ', '.join([*(name for name in names if name not in control), 'environments'])


def _defaults_of_methods(name: str, usual: dict) -> list[str]:
  """What differs from MAML's, e.g. ['with --method=reptile omniglot 5']."""
  words = []
  for method in config.METHODS[1:] if name != 'method' else ():
    own = {datasource: config.preset(datasource, method=method)[name] for datasource in usual
           if method in (problems.named(datasource).methods or config.METHODS)}
    words += _where_differing(f'--method={method}', own, usual)
  return words


def _defaults_of_baselines(name: str, usual: dict) -> list[str]:
  """The same of baselines."""
  words = []
  for baseline in problems.baseline_names():
    own = {}
    for datasource in usual:
      values, known = config.preset(datasource), problems.named(datasource).baselines
      if baseline in known:
        own[datasource] = {**values, **known[baseline].preset(values, {})}[name]
    words += _where_differing(f'--baseline={baseline}', own, usual)
  return words


def _where_differing(choice: str, own: dict, usual: dict) -> list[str]:
  by_value: dict[str, list[str]] = {}
  for datasource, value in own.items():
    if value != usual[datasource]:
      by_value.setdefault(str(value), []).append(datasource)
  if not by_value:
    return []
  values = (str(next(iter(own.values()))) if len(set(own.values())) == 1 else
            ', '.join(f'{datasource} {value}' for value, datasources in by_value.items()
                      for datasource in ([_together(datasources)]
                                         if len(datasources) > 3 else datasources)))
  return [f'with {choice} {values}']
