"""`--method=FILE.py:CLASS`: a method from outside of the package, with what methods have."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from stopping import stopped_after

import flags
from maml_tf import application, config, experiment
from maml_tf.config import ConfigError
from maml_tf.meta_learners import known_method, short_name
from maml_tf.training import history, trainer
from maml_tf.training.run_folder import prepare_folder

METHODS = '''
import tensorflow as tf
from maml_tf import MAML, Prototypical

class MultiStepLoss(MAML):
  """The mean of the losses after all updates."""
  def task_objectives(self, parameters, episodes):
    _, *steps = self.adaptation(parameters, episodes, self._num_updates, first_order=False)
    losses = [self.task_loss(adapted, episodes.query) for adapted in steps]
    return {'loss': tf.add_n(losses) / len(losses)}

class Measuring(MAML):
  """With something to be logged beside the objective's measures."""
  def task_objectives(self, parameters, episodes):
    measured = super().task_objectives(parameters, episodes)
    return {'a_third': measured['loss'] / 3, **measured}

class HalfDistances(Prototypical):
  def logits(self, parameters, tasks):
    return super().logits(parameters, tasks) / 2

class Asking(MAML):
  own_arguments = ('patience',)

class Needing(MAML):
  def __init__(self, *arguments, patience, **given):
    super().__init__(*arguments, **given)

class WithoutALoss(MAML):
  def task_objectives(self, parameters, episodes):
    return {'los': 0, 'error': 0}

class WithoutANameForIt(MAML):
  def task_objectives(self, parameters, episodes):
    return super().task_objectives(parameters, episodes)['loss']

number = 3
'''


@pytest.fixture
def spec(tmp_path):
  """A function: a name -> --method for it."""
  path = tmp_path / 'my_methods.py'
  path.write_text(METHODS)
  return lambda name: f'{path}:{name}'


@pytest.mark.parametrize('name, message', [
    ('Needing', "raised TypeError: .*missing 1 required keyword-only argument: 'patience'"),
    ('WithoutALoss', "the loss of each task as 'loss' of .* Received: 'los', 'error'"),
    ('WithoutANameForIt', "as 'loss' of a dictionary. Received: .*Tensor")])
def test_what_is_wrong_in_the_file_is_one_sentence(name, message, spec, small_config):
  configuration = small_config('sinusoid', method=spec(name))
  with pytest.raises(ConfigError, match=message):
    model = experiment.build_model(configuration)
    model.meta_gradient(experiment.training_generator(configuration).batch(0))


def test_it_has_flags_presets_and_refusals_of_what_it_is_derived_from(spec):
  own = flags.parse(['main.py', '--datasource=omniglot', f'--method={spec("MultiStepLoss")}'])
  assert own.to_values() == {**config.resolve({'datasource': 'omniglot'}).to_values(),
                             'method': spec('MultiStepLoss')}
  assert own.experiment_name.endswith('.my_methods.MultiStepLoss')
  nearest = config.resolve({'datasource': 'omniglot', 'method': spec('HalfDistances')})
  assert nearest.task.train_num_classes == 60 and not nearest.has_inner_loop
  with pytest.raises(ConfigError, match='which has no inner loop'):
    config.resolve({'datasource': 'omniglot', 'method': spec('HalfDistances'),
                    'num_updates': 3})
  assert (known_method('anil'), short_name('anil')) == ('anil', 'anil')
  assert config.Config.from_json(own.to_json()) == own


@pytest.mark.parametrize('name, message', [
    ('number', 'is not a method'), ('Nothing', 'has no Nothing')])
def test_what_is_no_method_is_refused(name, message, spec):
  with pytest.raises(ConfigError, match=message):
    config.resolve({'method': spec(name)})


def test_arguments_without_a_flag_are_refused(spec):
  with pytest.raises(ConfigError, match="'patience'"):
    experiment.build_model(config.resolve({'method': spec('Asking')}))


def parameters_of(result):
  reader = tf.train.load_checkpoint(result.checkpoint)
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if 'save_counter' not in name and 'OBJECT_GRAPH' not in name}


def test_what_it_measures_of_its_own_is_logged(spec, small_config, make_regression):
  configuration = small_config('sinusoid', method=spec('Measuring'), log=False,
                               metatrain_iterations=4, validation_interval=2)
  model = experiment.build_model(configuration)
  means, _ = model.meta_gradient(make_regression(2, 5, dtype='float32'))
  assert list(means) == ['loss', 'a_third']
  folder = prepare_folder(configuration)
  trainer.train(configuration, model, folder)
  lines = history.read(f'{folder}/{history.HISTORY_FILE}')
  assert len(lines) == 2
  for line in lines:
    assert line['a_third'] == pytest.approx(line['loss'] / 3, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name, datasource', [
    ('MultiStepLoss', 'sinusoid'), ('HalfDistances', 'omniglot')])
def test_it_trains_goes_on_and_is_tested(name, datasource, spec, small_config, tmp_path,
                                         monkeypatch):
  given = dict(method=spec(name), metatrain_iterations=10, validation_interval=5, log=False)
  if name == 'HalfDistances':
    given.update(num_updates=0, test_num_updates=0, train_num_classes=4)
  whole = small_config(datasource, logdir=str(tmp_path / 'whole'), **given)
  model = experiment.build_model(whole)
  assert type(model).__name__ == name
  expected = parameters_of(application.train_or_resume(whole, model))
  run = application.test(whole, model, str(tmp_path / 'whole' / whole.experiment_name))
  assert np.isfinite(run.results.query['loss']).all()

  configuration = small_config(datasource, **given)
  with stopped_after(5, monkeypatch):
    stopped = application.train_or_resume(configuration,
                                          experiment.build_model(configuration))
  assert stopped.interrupted_by == 'SIGTERM' and stopped.iteration == 5
  result = application.train_or_resume(configuration, experiment.build_model(configuration))
  np.testing.assert_equal(parameters_of(result), expected)
