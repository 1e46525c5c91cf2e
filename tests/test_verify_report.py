"""The list for the terminal, README.md of the results, and the plots."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maml_tf import verify
from maml_tf.config import ConfigError
from maml_tf.measures import ACCURACY, MEAN_SQUARED_ERROR
from maml_tf.paper import records
from maml_tf.paper.rows import ROWS, Row, row_named
from maml_tf.verification import (
  cells,
  drawn,
  pages,
  plots,
  report,
  returns_plot,
  verdicts,
)
from maml_tf.verification.studies import STUDIES

IMAGES = Row('images', 'table 1', 'Images, MAML', {'datasource': 'omniglot'},
             {1: '90.0 +- 1.0'}, 1, flagfile=row_named('omniglot_5way_1shot').flagfile_path)
# Of figure 3.
SINUSOID = Row('sinusoid_5shot', 'table 2', 'Sinusoid, MAML', {'datasource': 'sinusoid'},
               {0: '0.50', 1: '0.35'}, 1)
ORACLE = Row('sinusoid_5shot_oracle', 'figure 3', 'Sinusoid, oracle',
             {'datasource': 'sinusoid', 'baseline': 'oracle'}, {}, 0)
MISSING = Row('missing', 'table 3', 'Missing', {'datasource': 'omniglot'},
              {1: '94.9 +- 0.9'}, 1)
TABLE = (IMAGES, SINUSOID, ORACLE, MISSING)

STUDY = {
    'name': 'ways', 'title': 'Number of classes N', 'datasource': 'omniglot',
    'command': 'python -m maml_tf.verify --study=ways', 'length': '200 iterations per run',
    'seed': 0, 'measure': 'accuracy', 'split': 'val', 'num_tasks': 600,
    'runs': [{'label': f'num_classes {ways}', 'iterations': 200, 'seconds': 61.0,
              'query': [{'mean': 1 / ways, 'ci95': 0.01}, {'mean': 0.9, 'ci95': 0.01},
                        {'mean': 0.95, 'ci95': 0.01}],
              'history': [{'iteration': float(iteration), 'loss': 2.0,
                           'val_support_loss': 3.0, 'val_support_accuracy': 0.2,
                           'val_loss_0': 3.0, 'val_loss_1': 1.0, 'val_accuracy_0': 0.2,
                           'val_accuracy_1': 0.5 + iteration / 1000}
                          for iteration in (100, 200)]}
             for ways in (2, 5)]}


@pytest.fixture
def figures(figures_of):
  return figures_of(plots, returns_plot)


@pytest.fixture
def results(make_record):
  make_record(IMAGES, 0, values=((0.2, 0.01), (0.9, 0.02)))
  make_record(IMAGES, 1, values=((0.2, 0.01), (0.91, 0.02)), times_tested=2,
              training={'seconds': 5000.0, 'iterations': 60})
  make_record(ORACLE, values=((0.1, 0.01), (0.1, 0.01)))
  folder = make_record(SINUSOID, values=((0.52, 0.03), (0.5, 0.05)), trained=70)
  records.write_text(os.path.join(folder, 'studies', 'omniglot_ways.json'), json.dumps(STUDY))
  return folder


def cells_of(text, name):
  [line] = [line for line in text.splitlines() if line.split('  ')[0] == name]
  return [cell.strip() for cell in line.split('  ') if cell.strip()]


def readme_of(table, results):
  return pages.all_pages(table, results)['README.md']


def lines_of(table, results, name):
  """The cells of a row's lines in README.md, one for each number of updates."""
  lines = readme_of(table, results).splitlines()
  [first] = [index for index, line in enumerate(lines) if f'(`{name}`)' in line]
  following = itertools.takewhile(lambda line: line.startswith('|  |'), lines[first + 1:])
  return [[cell.strip() for cell in line.split('|')] for line in [lines[first], *following]]


def test_the_list_has_a_line_per_row(results):
  text = report.listing(TABLE, results)
  assert [line.split()[0] for line in text.splitlines()] == [
      'row', *(row.name for row in TABLE)]
  assert cells_of(text, 'images') == [
      'images', 'table 1', '1', '90.0 +- 1.0', '90.50 +- 2.23', 'reproduced', '100 of 100',
      '0, 1', '2 min 5 s; 1 h 23 min for 60 iterations', '0123456789', 'A processor, 2 cores']
  assert cells_of(text, 'sinusoid_5shot') == [
      'sinusoid_5shot', 'table 2', '0 / 1', '0.50 / 0.35',
      '0.520 +- 0.030 / 0.500 +- 0.050', 'partial', '70 of 100', '0', '2 min 5 s',
      '0123456789', 'A processor, 2 cores']
  assert cells_of(text, 'missing')[3:6] == ['94.9 +- 0.9', '-', 'not run']
  assert cells_of(text, 'sinusoid_5shot_oracle')[3:6] == ['-', '0.100 +- 0.010', 'measured']


def test_the_pages_have_the_rows_the_runs_and_the_plots(results):
  texts = pages.all_pages(TABLE, results)
  readme = texts['README.md']
  assert ('| Images, MAML (`images`) | table 1 | 1 | 90.0 +- 1.0 | 90.50 +- 2.23 | reproduced '
          '| 100 of 100 | 0, 1 |') in readme
  assert '| [Omniglot](#omniglot) | 2 | 1 | - | - | - | - | 1 |' in readme
  assert '| [Sinusoid](#sinusoid) | 2 | - | - | - | 1 | 1 | - |' in readme
  assert ('| images | 1 | 100 of 100 | best/model-100, chosen by validation score | twice '
          '| 91.00 +- 2.00 |') in texts['runs.md']
  for page, name in (('README.md', 'figure_3.png'),
                     ('curves.md', 'images/learning_curves.png'),
                     ('studies.md', 'studies/omniglot_ways.png')):
    assert f']({name})' in texts[page]
  assert 'figure_2.png' not in readme and 'missing/learning' not in texts['curves.md']
  assert '| 2 classes | 200 | 50.00 +- 1.00 | 90.00 +- 1.00 | 95.00 +- 1.00 |' in (
      texts['studies.md'])
  assert 'tested on 600 tasks of the validation classes' in texts['studies.md']
  for word in verdicts.MEANINGS:
    assert f'- **{word}**: ' in readme


def test_a_section_has_the_judged_rows_then_the_partial_ones_then_the_others(results):
  readme = pages.all_pages(TABLE, results)['README.md']
  [omniglot, sinusoid] = [readme.partition(f'## {title}\n')[2].partition('\n## ')[0]
                          for title in ('Omniglot', 'Sinusoid')]
  assert omniglot.index('`images`') < omniglot.index('Not trained') < omniglot.index(
      '| Missing (`missing`) | table 3 | 1 | 94.9 +- 0.9 | - |')
  assert sinusoid.index('`sinusoid_5shot_oracle`') < sinusoid.index('for a part') < (
      sinusoid.index('`sinusoid_5shot`'))
  assert '|  |  | **1** | 0.35 | 0.500 +- 0.050 | partial |  |  |' in sinusoid


def test_every_link_within_a_page_leads_somewhere(results):
  for text in pages.all_pages(TABLE, results).values():
    headings = {pages._anchor(line.lstrip('# ')) for line in text.splitlines()
                if line.startswith('#')}
    assert set(re.findall(r'\]\((#[^)]*)\)', text)) <= headings


def test_a_kept_run_is_named(results):
  text = pages.all_pages(TABLE, results)['runs.md']
  [before] = [line for line in text.splitlines() if 'seed0.npz](images/seed0.npz)' in line]
  assert before.endswith(' - |')
  (Path(results) / 'images' / 'seed0.run').mkdir()
  assert f'{before[:-len("- |")]}[images/seed0.run](images/seed0.run) |' in (
      pages.all_pages(TABLE, results)['runs.md'])


def test_iterations_that_were_kept_without_a_test_are_shown(results):
  for name, iteration in (('sinusoid_5shot', 70), ('missing', 20)):
    kept = Path(results) / name / 'seed0.run'
    kept.mkdir(parents=True)
    (kept / f'model-{iteration}.index').touch()
  lines = report.listing(TABLE, results)
  assert cells_of(lines, 'sinusoid_5shot')[6] == '70 of 100'   # that is what was tested
  assert cells_of(lines, 'missing')[4:7] == ['-', 'not run', '-; 20 kept']
  (Path(results) / 'sinusoid_5shot' / 'seed0.run' / 'model-1080.index').touch()
  assert cells_of(report.listing(TABLE, results), 'sinusoid_5shot')[6] == (
      '70 of 100; 1,080 kept')
  assert '| partial | 70 of 100; 1,080 kept | 0 |' in readme_of(TABLE, results)


def test_the_learning_curve_of_a_kept_run_is_drawn(results):
  for name in ('sinusoid_5shot', 'missing'):
    kept = Path(results) / name / 'seed0.run'
    kept.mkdir(parents=True)
    (kept / 'model-80.index').touch()
    (kept / 'history.csv').write_text(
        'iteration,iterations,seconds,executions,loss,accuracy\n80,80,1.5,80,3.0,\n')
  for row in (SINUSOID, MISSING):   # one has a record of 70 iterations, one has none
    [line] = drawn.histories(row, results)[0]
    assert line['iteration'] == 80
  assert '### Missing' in pages.all_pages(TABLE, results)['curves.md']
  (Path(results) / 'sinusoid_5shot' / 'seed0.run' / 'model-80.index').unlink()
  assert [line['iteration'] for line in drawn.histories(SINUSOID, results)[0]] == [50, 100]


def test_a_row_that_was_reproduced_early_says_after_how_many_iterations(make_record):
  folder = make_record(SINUSOID, values=((0.8, 0.03), (0.35, 0.05)), trained=30,
                       ended_early={})
  lines = lines_of(TABLE, folder, 'sinusoid_5shot')
  assert [line[-4:-1] for line in lines] == [
      ['below, ended early', '30 of 100', '0'], ['reproduced early (30 of 100)', '', '']]


def test_a_verdict_that_differs_for_another_number_of_updates_is_said(make_record):
  folder = make_record(SINUSOID, values=((0.8, 0.03), (0.35, 0.05)))
  lines = lines_of(TABLE, folder, 'sinusoid_5shot')
  assert [line[-4] for line in lines] == ['below (worse)', 'reproduced']


def test_the_report_is_written_twice_with_the_same_bytes(results, tmp_path):
  written = report.write_report(TABLE, None, results)
  assert sorted(os.path.relpath(path, results) for path in written) == [
      'README.md', 'curves.md', 'figure_3.png', 'images/learning_curves.png',
      'runs.md', 'sinusoid_5shot/learning_curves.png',
      'sinusoid_5shot_oracle/learning_curves.png', 'studies.md', 'studies/omniglot_ways.png']
  before = [Path(path).read_bytes() for path in written]
  report.write_report(TABLE, None, results)
  assert [Path(path).read_bytes() for path in written] == before
  for path in written:
    if path.endswith('.png'):
      picture = Image.open(path)
      picture.load()
      assert 400 < picture.width < 2000 and 'Software' not in picture.info


def test_every_picture_of_the_pages_is_written(results):
  written = report.write_report(TABLE, lambda weights: b'png', results)
  named = re.findall(r'!\[[^]]*\]\(([^)]+)\)',
                     ''.join(pages.all_pages(TABLE, results).values()))
  assert named and {os.path.join(results, name) for name in named} <= set(written)


def test_without_results_there_is_a_table_and_nothing_else(tmp_path):
  written = report.write_report(TABLE, None, str(tmp_path))
  assert [os.path.basename(path) for path in written] == list(pages.PAGES)
  texts = [Path(path).read_text() for path in written]
  assert all(f'(`{row.name}`)' in texts[0] for row in TABLE)
  assert '.png' not in ''.join(texts)


def test_the_front_page_has_maml_s_judged_rows_and_counts_those_of_others(make_record):
  for row, values in ((IMAGES, ((0.2, 0.01), (0.5, 0.01))),
                      (SINUSOID, ((0.5, 0.01), (0.36, 0.05)))):
    folder = make_record(row, values=values)
  make_record(ORACLE, values=((0.1, 0.01), (0.1, 0.01)))
  partial = Row('partial', 'table 1', 'Partial', {'datasource': 'omniglot'},
                {1: '90.0 +- 1.0'}, 1)
  make_record(partial, trained=10)
  other = Row('other', 'table 1', 'Other', {'datasource': 'omniglot', 'method': 'siamese'},
              {1: '50.0 +- 1.0'}, 1)
  make_record(other, values=((0.2, 0.01), (0.5, 0.01)))
  assert report.front_page_table((*TABLE, partial, other), folder).splitlines() == [
      '| row | paper | here | verdict |', '|---|---|---|---|',
      '| Sinusoid, MAML | 0.50 / 0.35 | 0.500 +- 0.010 / 0.360 +- 0.050 | reproduced |',
      '| Images, MAML | 90.0 +- 1.0 | 50.00 +- 1.00 | below (worse) |', '',
      'Trained for a part of their length so far, and not to be compared: Partial.', '',
      'Not trained to a test so far: Missing.', '',
      'Baselines and other methods, 2 rows: reproduced 1, measured 1.']


def test_rows_that_ended_early_are_marked_and_counted_alike(make_record):
  """On the front page and in the results: what is reproduced was trained to its end."""
  method = {'datasource': 'omniglot', 'method': 'siamese'}
  whole, early = (Row(name, 'table 1', name.capitalize(), method, {1: '50.0 +- 1.0'}, 1)
                  for name in ('whole', 'early'))
  no_number = Row('no_number', 'not in the paper', 'No number', method, {}, 1)
  make_record(whole, values=((0.2, 0.01), (0.5, 0.01)))
  for row, value in ((IMAGES, 0.9), (early, 0.5)):
    folder = make_record(row, values=((0.2, 0.01), (value, 0.01)), trained=30, ended_early={})
  rows = (IMAGES, whole, early, MISSING, no_number)
  front = report.front_page_table(rows, folder)
  assert '| 90.00 +- 1.00 | reproduced early (30 of 100) |' in front
  assert 'Not trained to a test so far: Missing.' in front
  assert 'Baselines and other methods, 3 rows: reproduced 2 (1 early), not run 1.' in front
  assert front.endswith('Early: ended before the plan of the flagfile, by a rule that sees '
                        'validation tasks only.')
  readme = readme_of(rows, folder)
  assert '| [Omniglot](#omniglot) | 5 | 3 (2 early) | - | - | - | - | 2 |' in readme
  assert '\nEarly: ended before' in readme


def test_an_environment_s_page_has_all_its_rows_with_their_flagfiles(make_record):
  folder = make_record(IMAGES, values=((0.2, 0.01), (0.5, 0.01)))
  [header, _, *lines] = report.environment_table('omniglot', TABLE, folder).splitlines()
  assert header == '| row | paper | here | verdict | iterations | seeds | flagfile |'
  assert len(lines) == sum(row.identity.get('datasource') == 'omniglot' for row in TABLE) > 0
  assert any('50.00 +- 1.00 | below (worse)' in line and '`flags/' in line for line in lines)


def test_the_front_page_keeps_what_is_around_the_table(tmp_path):
  path = tmp_path / 'README.md'
  path.write_text(f'# Title\n\n{report.BEGIN}\nold\n{report.END}\n\nrest\n')
  for _ in range(2):
    report.write_table(str(path), report.front_page_table(TABLE, str(tmp_path)))
    text = path.read_text()
    assert text.startswith(f'# Title\n\n{report.BEGIN}\n\n| row |') and 'old' not in text
    assert text.endswith(f'not run 1.\n\n{report.END}\n\nrest\n')
  path.write_text('# No marks')
  with pytest.raises(ConfigError, match='put them back'):
    report.write_table(str(path), '| row |')
  assert path.read_text() == '# No marks'


def test_the_report_of_the_repositorys_own_results_writes_its_front_page(
    results, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(verify, 'REPOSITORY', str(tmp_path))
  page = tmp_path / 'README.md'
  page.write_text(f'{report.BEGIN}\n{report.END}\n')
  verify._report(TABLE, results)
  assert '| row |' not in page.read_text()   # those are not the repository's own
  monkeypatch.setattr(records, 'RESULTS', results)
  verify._report(TABLE, results)
  assert '| row |' in page.read_text() and f'Written: {page}' in capsys.readouterr().out


@pytest.fixture(scope='module')
def committed():
  """The pages of the repository's own results, as they are now: {file name: text}."""
  return pages.all_pages(ROWS)


@pytest.mark.parametrize('name', pages.PAGES)
def test_the_committed_report_is_that_of_the_committed_files(name, committed):
  """So that no number in it was typed in."""
  with open(os.path.join(records.RESULTS, name), encoding='utf-8') as file:
    assert file.read() == committed[name], (
        f'results/{name} differs from what `python -m maml_tf.verify --report` writes')


def test_each_committed_picture_is_there(committed):
  for name in re.findall(r'!\[[^]]*\]\(([^)]+)\)', ''.join(committed.values())):
    assert os.path.isfile(os.path.join(records.RESULTS, name)), name


def test_a_damaged_study_is_refused_by_name(results):
  Path(results, 'studies', 'omniglot_ways.json').write_text('{')
  with pytest.raises(ConfigError, match='omniglot_ways.json'):
    pages.all_pages(TABLE, results)


# What is drawn.

def test_the_learning_curves_are_those_of_the_history(results, figures):
  histories = drawn.histories(IMAGES, results)
  assert sorted(histories) == [0, 1]
  plots.learning_curves('Images', histories, ACCURACY)
  loss, accuracy = figures[0].axes
  lines = {line.get_label(): line.get_xydata() for line in accuracy.lines}
  np.testing.assert_allclose(lines['training, adapted (seed 0)'], [[50, 50], [100, 70]])
  np.testing.assert_allclose(lines['validation, 1 update (seed 1)'], [[50, 60], [100, 80]])
  np.testing.assert_allclose(lines['validation, before (seed 0)'], [[50, 20], [100, 20]])
  assert [line.get_label() for line in loss.lines] == [
      'training, adapted (seed 0)', 'training, adapted (seed 1)']


def test_a_legend_of_many_seeds_is_short_and_beside_the_curves(results, figures):
  """Not an entry for each curve, over the first iterations, where everything happens."""
  lines = drawn.histories(IMAGES, results)[0]
  plots.learning_curves('Images', dict.fromkeys(range(5), lines), ACCURACY)
  assert [axes.get_legend() for axes in figures[0].axes] == [None, None]
  [legend] = figures[0].legends
  assert [text.get_text() for text in legend.get_texts()] == [
      'training, adapted', 'validation, before', 'validation, 1 update',
      *(f'seed {seed}' for seed in range(5))]
  figures[0].canvas.draw()
  box = legend.get_window_extent()
  assert not any(box.overlaps(axes.get_window_extent()) for axes in figures[0].axes)


def test_a_short_history_is_seen_to_be_short(results, figures):
  """From 0, nothing cut off at an edge, and points at one place told apart."""
  lines = drawn.histories(IMAGES, results)[0][:1]
  plots.learning_curves('Images', {0: lines}, ACCURACY)
  for axes in figures[0].axes:
    assert axes.get_xlim()[0] == 0
    for line in axes.lines:
      assert axes.get_ylim()[0] <= line.get_ydata()[0] < axes.get_ylim()[1]
  assert {line.get_fillstyle() for line in figures[0].axes[1].lines} == {
      'none', 'left', 'right'}


@pytest.mark.parametrize('measure, title', [
    ('accuracy', ('Accuracy against meta-training iterations',
                  'Loss and accuracy before and after the updates')),
    ('loss', ('Mean squared error against meta-training iterations',
              'Mean squared error before and after the updates'))])
def test_a_study_is_named_by_what_it_measures(measure, title):
  assert tuple(plots.title_of({'title': study.title, 'measure': measure})
               for study in STUDIES if study.flag is None) == title


def test_the_curves_of_a_classifier_are_not_called_adapted(results, figures):
  identity = {**IMAGES.identity, 'meta_trained': False, 'baseline': 'fine_tuning'}
  drawn.learning_curves(dataclasses.replace(IMAGES, identity=identity), results)
  assert {line.get_label() for line in figures[0].axes[1].lines
          if 'seed 0' in line.get_label()} == {
      'training (seed 0)', 'validation, before (seed 0)',
      'validation, nearest neighbour (seed 0)'}


@pytest.mark.parametrize('name', ['omniglot_5way_1shot_siamese', 'ant_velocity_oracle',
                                  'ant_velocity_pretrained', 'sinusoid_5shot_pretrained'])
def test_nor_are_those_of_what_is_trained_without_updates(name, figures):
  drawn.learning_curves(row_named(name), records.IN_REPOSITORY)
  for axes in figures[0].axes:
    assert axes.lines[0].get_label().startswith('training (seed')


def test_losses_are_drawn_as_means_over_examples(figures):
  """Or training, with 15 query images of a class, would look 15 times as bad as validation
  with one."""
  row = row_named('miniimagenet_5way_1shot')
  [lines] = drawn.histories(row, records.IN_REPOSITORY).values()
  drawn.learning_curves(row, records.IN_REPOSITORY)
  axes = figures[0].axes[0]
  training, before, after = (line.get_ydata() for line in axes.lines)
  assert axes.get_ylabel() == 'loss, mean over examples'
  np.testing.assert_allclose(training, [line['loss'] / 75 for line in lines])
  np.testing.assert_allclose(before, [line['val_loss_0'] / 5 for line in lines
                                      if line['val_loss_0']])
  assert max(map(max, (training, before, after))) < 2 < min(line['loss'] for line in lines)


def test_so_are_those_of_a_study(figures):
  [result] = [result for result in drawn.read_studies(records.IN_REPOSITORY)
              if (result['name'], result['datasource']) == ('before_and_after', 'omniglot')]
  lines = result['runs'][0]['history']
  drawn.study_plot(result)
  left = figures[0].axes[0]
  support, before, after = (line.get_ydata() for line in left.lines)
  assert left.get_ylabel() == 'validation loss, mean over examples'
  np.testing.assert_allclose(support, [line['val_support_loss'] / 5 for line in lines])
  np.testing.assert_allclose(after, [line['val_loss_1'] / 25 for line in lines])
  np.testing.assert_allclose(before, support, rtol=0.05)   # nothing has adapted


def test_the_end_of_a_method_is_not_joined_to_its_validations(figures):
  """It is on more tasks."""
  run = {**STUDY['runs'][1], 'updates': 1, 'history': [
      {**line, 'seconds': 10.0} for line in STUDY['runs'][1]['history']]}
  early = {**run, 'label': 'stopped before its first validation', 'history': []}
  plots.methods({**STUDY, 'title': 'Methods', 'runs': [run, early]})
  for axes, places, end in zip(figures[0].axes, ([10, 20], [100, 200]), (20, 200)):
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.transpose([places, [60, 70]]))
    [container, of_early] = axes.containers
    data, _, (bars,) = container
    np.testing.assert_allclose(data.get_xydata(), [[end, 90]])
    np.testing.assert_allclose(bars.get_segments(), [[[end, 89], [end, 91]]])
    assert of_early[0].get_xydata()[0, 1] == 90
  [legend] = figures[0].legends
  assert [text.get_text() for text in legend.get_texts()] == [
      run['label'], early['label'], 'at the end, on 600 tasks']


@pytest.mark.parametrize('count, marker', [(1, 'o'), (2, 'None')])
def test_a_history_of_one_line_is_visible(results, figures, count, marker):
  lines = drawn.histories(IMAGES, results)[0][:count]
  plots.learning_curves('Images', {0: lines}, ACCURACY)
  assert [line.get_marker() for axes in figures[0].axes for line in axes.lines] == [
      marker] * 4


@pytest.mark.parametrize('runs', [1, 2])
def test_a_study_validated_once_is_visible(figures, runs):
  plots.study({**STUDY, 'runs': [{**run, 'history': run['history'][:1]}
                                 for run in STUDY['runs'][:runs]]})
  lines = figures[0].axes[1].lines
  assert lines and {line.get_marker() for line in lines} == {'o'}


def test_without_a_history_there_are_no_curves():
  assert plots.learning_curves('None', {0: []}, MEAN_SQUARED_ERROR) is None
  assert plots.figure_3({'5-shot': {}}) is None


def test_figure_3_has_the_errors_of_the_files(results, figures):
  plots.figure_3(drawn.figure_3_panels(TABLE, results))
  [axes] = figures[0].axes
  lines = {line.get_label(): line.get_xydata() for line in axes.lines}
  np.testing.assert_allclose(lines['oracle'], [[0, 0.1], [1, 0.1]])
  np.testing.assert_allclose(lines['MAML (partial: 70 of 100 iterations)'],
                             [[0, 0.52], [1, 0.5]])
  assert axes.get_title() == '5-shot'


def test_figure_5_has_the_returns_of_the_files_and_the_paper_s(figures):
  panels = returns_plot.panels_of(ROWS, records.IN_REPOSITORY)
  panel = {'cheetah_velocity': panels['cheetah_velocity']}
  returns_plot.figure_5(panel, ROWS)
  [axes] = figures[0].axes
  assert axes.get_title() == 'Half-cheetah, velocity'
  found = panel['cheetah_velocity']
  for container, method in zip(axes.containers, ('MAML', 'pre-trained', 'random')):
    data, _, (bars,) = container
    for update, (place, segment) in enumerate(zip(data.get_xydata(), bars.get_segments())):
      mean, ci95 = verdicts.combined(found[method], update)
      np.testing.assert_allclose(place, [update, mean])
      np.testing.assert_allclose(segment[:, 1], [mean - ci95, mean + ci95])
  mean, ci95 = verdicts.combined(found['oracle'], 0)
  corners = axes.patches[0].get_path().vertices
  corners = axes.patches[0].get_patch_transform().transform(corners)
  np.testing.assert_allclose([corners[:, 1].min(), corners[:, 1].max()],
                             [mean - ci95, mean + ci95])
  paper = [line.get_xydata() for line in axes.lines if line.get_markersize() == 8]
  np.testing.assert_allclose(paper[0][:, 1], [-129.5, -78.6, -66.6, -60.8])
  np.testing.assert_allclose(paper[-1], [[0, -54.5]])


def test_methods_are_told_apart_without_colours(results, figures):
  assert set(plots.MARKERS) == set(plots.COLOURS) == set(returns_plot.METHODS)
  assert len(set(plots.MARKERS.values())) == len(plots.MARKERS)
  plots.figure_3(drawn.figure_3_panels(TABLE, results))
  assert [line.get_marker() for line in figures[0].axes[0].lines] == ['o', '']


@pytest.mark.parametrize('runs, left_labels, right_points', [
    (2, ['num_classes 2', 'num_classes 5'], [[100, 60], [200, 70]]),
    (1, ['support set, before', 'query set, before', 'query set, 1 update'],
     [[100, 20], [200, 20]])])
def test_a_study_is_drawn_against_updates_and_iterations(runs, left_labels, right_points,
                                                         figures):
  png = plots.study({**STUDY, 'runs': STUDY['runs'][:runs]})
  Image.open(io.BytesIO(png)).load()
  left, right = figures[0].axes
  assert [text.get_text() for text in left.get_legend().get_texts()] == left_labels
  np.testing.assert_allclose(right.lines[0].get_xydata(), right_points)
  assert figures[0].get_suptitle() == (
      'Number of classes N: Omniglot, 200 iterations per run')


@pytest.mark.parametrize('seconds, text', [(38.2, '38 s'), (125, '2 min 5 s'),
                                           (59.6, '1 min 0 s'), (11520, '3 h 12 min')])
def test_durations(seconds, text):
  assert cells.duration_text(seconds) == text


@pytest.mark.parametrize('value, text', [(0.1494, '0.149'), (30, '30'), (13.52, '13.5'),
                                         (99.96, '100'), (2000, '2000'), (12345.6, '12346')])
def test_numbers_have_no_exponent(value, text):
  assert cells.three_digits(value) == text
