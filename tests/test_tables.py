"""Tables of images, as programs and people write them."""

from __future__ import annotations

import pytest

from data_scripts import tables

ROWS = [('n0153282900000005.jpg', 'n01532829'), ('n0155899300000006.jpg', 'n01558993')]


def table(header='filename,label', row='{0},{1}', end='\n'):
  return end.join([*([header] if header else []), *(row.format(*each) for each in ROWS), ''])


def read(data):
  rows, incomplete = tables.read(data)
  assert not incomplete
  return [(row.file, row.label) for row in rows]


@pytest.mark.parametrize('text', [
    table(), table(end='\r\n'), table(end='\r'), table(end='\n\n'),
    table('"filename","label"', '"{0}","{1}"'), table(' filename , label ', ' {0} , {1}'),
    table('Filename,Label'), table('FILE NAME;CLASS', '{0};{1}'),
    table('image_id,class_id'), table('fname,target'), table('file_name,category_id'),
    table('class_name,image_name', '{1},{0}'), table('wnid\timage', '{1}\t{0}'),
    table(',filename,label', '17,{0},{1}'), table('id|path|label', '17|{0}|{1}'),
    table('filename,label,name', '{0},{1},"small, brown bird"'),
    table('name,label,filename', 'a bird,{1},{0}'),
    table('sep=;\nfilename;label', '{0};{1}'), table('filename label', '{0} {1}'),
    table(None), table(None, '{0};{1}'), table(None, '{0}\t{1}'), table(None, '{1} {0}'),
    table(None, '17,{0},{1}'), table(None, '"{0}","{1}"')])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_dialects(text, encoding):
  assert read(text.encode(encoding)) == ROWS


def test_names_with_folders_are_left_as_they_are():
  assert read(table(row='images/{1}/{0},{1}').encode())[0] == (
      'images/n01532829/n0153282900000005.jpg', 'n01532829')
  assert read(table(row='images\\{0},{1}').encode())[0][0] == 'images\\n0153282900000005.jpg'


def test_windows_text_is_read():
  assert read('filename,label\na.jpg,Bär\n'.encode('cp1252')) == [('a.jpg', 'Bär')]


@pytest.mark.parametrize('text', ['label\nn01532829\nn01558993\n', 'n01532829\nn01558993\n',
                                  'class_name\nn01532829\nn01558993'])
def test_a_table_may_name_classes_alone(text):
  assert read(text.encode()) == [(None, 'n01532829'), (None, 'n01558993')]


def test_lists_in_json_are_read():
  assert read(b'{"label_names": ["x", "y"], "image_names": ["/d/a.jpg", "b.jpg"],'
              b' "image_labels": [1, 0]}') == [('/d/a.jpg', 'y'), ('b.jpg', 'x')]


def test_lists_in_json_need_no_names_of_classes():
  """Nor memory for as many as the largest number says."""
  assert read(b'{"image_names": ["a.jpg", "b.jpg"], "image_labels": [0, 1%s]}' % (b'0' * 900)
              ) == [('a.jpg', '0'), ('b.jpg', '1' + '0' * 900)]


def test_rows_without_a_cell_are_given_with_their_line():
  rows, incomplete = tables.read(b'filename,label\n\na.jpg,x\nb.jpg\n,x\nc.jpg,y\n')
  assert [(row.line, row.file) for row in rows] == [(3, 'a.jpg'), (6, 'c.jpg')]
  assert incomplete == [(4, ['b.jpg']), (5, ['', 'x'])]


@pytest.mark.parametrize('data, message', [
    (b'', 'an empty file'), (b'\n\n', 'an empty file'), (b'<html></html>', 'a web page'),
    (b'a,b\n1,2\n', r'its first line is "a,b", and the columns filename and label'),
    (b'filename,size\na.jpg,3\n', 'its first line is "filename,size"'),
    (b'a.jpg,b,c\n', 'which column has the classes cannot be told from "a.jpg,b,c"'),
    (b'{"image_names": ["a.jpg"], "image_labels": []}', 'one label for each image'),
    (b'{"image_names": [1], "image_labels": [0]}', 'one label for each image'),
    (b'{"image_names": ["a"], "image_labels": [3], "label_names": ["x"]}', 'in JSON'),
    (b'{"image_names": ["a"], "image_labels": [-1], "label_names": ["x"]}', 'from 0'),
    (b'{"image_names": "image_labels"}', 'list of images in JSON'),
    (b'\xff\xfe\x00', 'not a text'), (b'PK\x03\x04\x00\x00', 'not a text'),
    (b'filename,label\n' + b'a' * 200_000 + b',b\n', 'field larger than field limit'),
    (b'filename,label\n' + b'a,b\n' * (1 << 20), 'larger than 4 MiB .*train/CLASS')])
def test_what_is_no_table_is_named(data, message):
  with pytest.raises(tables.TableError, match=message):
    tables.read(data)
