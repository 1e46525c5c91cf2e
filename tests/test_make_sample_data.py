"""The sample data: the same for a seed, in both forms, and learnable."""

from __future__ import annotations

import os

import numpy as np
import pytest

from data_scripts import make_sample_data, prepare_miniimagenet, prepare_omniglot
from data_scripts.plan import Layout
from maml_tf.sources.image_set import IMAGE_SHAPES, SPLITS, load_split

DATASOURCES = make_sample_data.DATASOURCES
SCRIPTS = {'omniglot': prepare_omniglot, 'miniimagenet': prepare_miniimagenet}


def make(datasource, out, *flags) -> int:
  return make_sample_data.main([f'--datasource={datasource}', f'--out={out}', *flags])


@pytest.mark.parametrize('datasource', DATASOURCES)
def test_the_prepared_form_is_read(tmp_path, datasource, capsys):
  assert make(datasource, tmp_path / 'out', '--classes=5,3,4', '--images_per_class=6') == 0
  for split, classes in zip(SPLITS, (5, 3, 4)):
    loaded = load_split(tmp_path / 'out', datasource, split)
    assert loaded.images.shape == (classes * 6, *IMAGE_SHAPES[datasource])
    assert len(set(loaded.class_names)) == classes
    assert len({image.tobytes() for image in loaded.images}) == classes * 6
  assert f'--datasource={datasource}' in capsys.readouterr().out
  assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize('datasource', DATASOURCES)
def test_the_default_counts(tmp_path, datasource):
  assert make(datasource, tmp_path / 'out') == 0
  for split, classes in zip(SPLITS, (12, 6, 8)):
    assert load_split(tmp_path / 'out', datasource, split).class_counts.tolist() == (
        [20] * classes)


@pytest.mark.parametrize('datasource', DATASOURCES)
def test_a_seed_decides_everything(tmp_path, datasource):
  flags = ['--classes=3,2,2', '--images_per_class=2', '--form=source']
  for name, seed in (('one', 4), ('two', 4), ('other', 5)):
    assert make(datasource, tmp_path / name, f'--seed={seed}', *flags) == 0
  for name in os.listdir(tmp_path / 'one'):
    one = (tmp_path / 'one' / name).read_bytes()
    assert one == (tmp_path / 'two' / name).read_bytes()
    if name.endswith('.zip'):
      assert one != (tmp_path / 'other' / name).read_bytes()


@pytest.mark.parametrize('datasource', DATASOURCES)
def test_the_source_form_is_prepared_to_the_prepared_form(tmp_path, datasource):
  flags = ['--classes=5,3,4', '--images_per_class=3', '--seed=1']
  assert make(datasource, tmp_path / 'source', '--form=source', *flags) == 0
  assert make(datasource, tmp_path / 'prepared', *flags) == 0
  arguments = [f'--source={tmp_path / "source"}', f'--out={tmp_path / "out"}']
  assert SCRIPTS[datasource].main(arguments, Layout(5, 3, 4, 3)) == 0
  for split in SPLITS:
    assert (load_split(tmp_path / 'out', datasource, split).sha256 ==
            load_split(tmp_path / 'prepared', datasource, split).sha256)


@pytest.mark.parametrize('datasource', DATASOURCES)
def test_the_classes_can_be_told_apart(tmp_path, datasource):
  """The nearest class mean, of 10 images, names most of 10 others of 8 classes."""
  assert make(datasource, tmp_path / 'out') == 0
  loaded = load_split(tmp_path / 'out', datasource, 'test')
  images = loaded.images.reshape(8, 20, -1).astype(np.float64)
  means = images[:, :10].mean(axis=1)
  queries = images[:, 10:].reshape(80, -1)
  distances = ((queries[:, np.newaxis] - means) ** 2).sum(axis=2)
  accuracy = (distances.argmin(axis=1) == np.repeat(np.arange(8), 10)).mean()
  assert accuracy > 0.6   # chance is 0.125
  assert (images[:, :10].std(axis=1) > 0).any()   # and the images of a class differ


def test_a_sample_is_never_taken_for_the_real_set(tmp_path, capsys):
  assert make('omniglot', tmp_path / 'out', '--classes=5,3,4', '--images_per_class=3') == 0
  assert prepare_omniglot.main(['--source=x', f'--out={tmp_path / "out"}']) == 2
  assert "'sample': True" in capsys.readouterr().err


def test_what_is_there_is_kept(tmp_path, capsys):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'thesis.tex').write_text('years of work')
  for form in ('source', 'prepared'):
    assert make('omniglot', tmp_path / 'out', f'--form={form}') == 2
    assert '--out' in capsys.readouterr().err
  assert os.listdir(tmp_path / 'out') == ['thesis.tex']
  flags = ['--classes=2,2,2', '--images_per_class=2']
  assert make('omniglot', tmp_path / 'set', *flags) == 0
  assert make('omniglot', tmp_path / 'set', *flags) == 0
  assert 'already complete' in capsys.readouterr().out
  assert make('omniglot', tmp_path / 'set', '--seed=7', *flags) == 2
  assert make('omniglot', tmp_path / 'set', '--seed=7', '--overwrite', *flags) == 0


@pytest.mark.parametrize('flag', ['--classes=1,2', '--classes=0,1,1', '--classes=a,b,c',
                                  '--images_per_class=0', '--seed=-1', '--form=zip',
                                  '--datasource=sinusoid'])
def test_wrong_flags_exit_with_2(tmp_path, flag):
  with pytest.raises(SystemExit) as error:
    make('omniglot', tmp_path / 'out', flag)
  assert error.value.code == 2
  assert not (tmp_path / 'out').exists()
