"""The files of an export, and whether they give the same numbers elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Dict, List, Optional, Tuple

import tensorflow as tf

from maml_tf.errors import FailedError
from maml_tf.prediction import check_exported_path
from maml_tf.prediction.base import NetOfTasks
from maml_tf.tensorflow_log import cplusplus_unheard
from maml_tf.training.checkpoint_files import first_line

# Of probabilities: ten inner steps in float32, whose operations another graph has in another
# order, and what a converter makes of a net.
TOLERANCE = 1e-3
# Of layers under 'mixed_bfloat16', whose numbers have three digits; inner steps leave fewer.
_TOLERANCE_OF_16_BITS = 0.1


class Served(tf.Module):
  """`adapt` and `predict` for a SavedModel.

  Args:
    net: with its start.
    image_shape: of one image, as the net takes it.
    examples: of a support set; None: any number.
  """

  def __init__(self, net: NetOfTasks, image_shape: Tuple[int, ...], examples: Optional[int]):
    super().__init__(name='served')
    self.net = net
    self.start = net.variables   # where a SavedModel finds them
    dtype = net.dtype
    images = tf.TensorSpec([examples, *image_shape], dtype, 'images')
    labels = tf.TensorSpec([examples], tf.int32, 'labels')
    self.adapt = tf.function(self._adapt, autograph=False)
    self.predict = tf.function(self._predict, autograph=False)
    adapt = self.adapt.get_concrete_function(images, labels)
    values = {name: tf.TensorSpec(spec.shape, spec.dtype, name)
              for name, spec in adapt.structured_outputs.items()}
    predict = self.predict.get_concrete_function(
        tf.TensorSpec([None, *image_shape], dtype, 'images'), values)
    self.concrete = {'adapt': adapt, 'predict': predict}

  def _adapt(self, images, labels) -> Dict[str, tf.Tensor]:
    values = self.net.adapt(images, labels)
    self._names = {_argument(name): name for name in values}
    return {_argument(name): value for name, value in values.items()}

  def _predict(self, images, values) -> Dict[str, tf.Tensor]:
    named = {self._names[argument]: value for argument, value in values.items()}
    return {'probabilities': tf.nn.softmax(self.net.logits(named, images))}


def tolerance_of(net: NetOfTasks) -> float:
  """By how much probabilities may differ, which the same net gives elsewhere."""
  return _TOLERANCE_OF_16_BITS if net.computes_in_16_bits else TOLERANCE


def _argument(name: str) -> str:
  """'conv1/kernel' as the name of an argument."""
  return name.replace('/', '_')


def write_adaptation(folder: str, served: Served) -> str:
  """The SavedModel with both signatures; its folder."""
  path = os.path.join(folder, 'adaptation')
  _save(served, path, served.concrete)
  return path


def _save(module: tf.Module, path: str, signatures) -> None:
  """Raises: OSError: on a full disk, as what else writes files does."""
  try:
    tf.saved_model.save(module, path, signatures=signatures)
  except tf.errors.OpError as error:
    raise OSError(first_line(error)) from error


def write_adapted(folder: str, model: tf.keras.Model) -> Tuple[List[str], List[str]]:
  """A task's net in every form that there is a converter for; in that of Keras, where its
  layers can say what they are made of.

  Returns:
    (paths, sentences on the forms that could not be written).
  """
  paths = [os.path.join(folder, 'adapted_saved_model')]
  call = tf.function(lambda images: {'probabilities': model(images, training=False)},
                     autograph=False)
  spec = tf.TensorSpec([None, *model.input_shape[1:]], model.inputs[0].dtype, 'images')
  module = tf.Module()
  module.model = model
  signature = call.get_concrete_function(spec)
  _save(module, paths[0], signature)
  left_out = []
  for name, convert in ((KERAS, lambda path, *_: model.save(path)),
                        ('adapted.tflite', _tflite), ('adapted.onnx', _onnx)):
    path = os.path.join(folder, name)
    try:
      convert(path, paths[0], signature)
      paths.append(path)
    except OSError:   # a full disk
      raise
    except ImportError as error:
      left_out.append(f'{name} is not written, since its converter is not installed '
                      f'({error}): {_INSTALL_ONNX}.')
    except Exception as error:   # whatever a converter cannot do
      reason = str(error).strip().splitlines()
      left_out.append(f'{name} is not written, since its converter cannot '
                      f'({type(error).__name__}: {reason[0] if reason else ""}).')
  return paths, left_out


# onnx 1.19 needs a newer ml_dtypes than TensorFlow 2.15 can have.
_INSTALL_ONNX = 'pip install tf2onnx "onnx<1.19" onnxruntime'


def _tflite(path: str, saved_model: str, _) -> None:
  with cplusplus_unheard():   # the converter writes there of what succeeded
    content = tf.lite.TFLiteConverter.from_saved_model(saved_model).convert()
  with open(path, 'wb') as file:
    file.write(content)


def _onnx(path: str, _: str, signature) -> None:
  import onnxruntime  # noqa: F401  what is written is tried by it
  import tf2onnx
  [spec] = signature.structured_input_signature[1].values() or (
      signature.structured_input_signature[0])
  tf2onnx.convert.from_function(
      tf.function(lambda images: signature(images)), input_signature=[spec],
      output_path=path)


KERAS = 'adapted.keras'
# As in `check_exported`, which is run by itself.
CONVERTED = (KERAS, 'adapted.tflite', 'adapted.onnx')


def take_out_misconverted(folder: str, found: Dict[str, float],
                          tolerance: float = TOLERANCE) -> Dict[str, str]:
  """Removes what a converter got wrong, from the folder and from `found`; {file: what is wrong
  with it}."""
  wrong = {name: found[name] for name in CONVERTED
           if name in found and not found[name] <= tolerance}
  for name in wrong:
    os.unlink(os.path.join(folder, name))
    del found[name]
  return {name: _what_is_wrong(name, difference) for name, difference in wrong.items()}


def _what_is_wrong(name: str, difference: float) -> str:
  if name == KERAS and difference != difference:
    return ('it cannot be loaded without the code of its layers (a Lambda, or of your own): '
            'take adapted_saved_model')
  return 'its converter, in this version of TensorFlow, ' + (
      'makes what cannot be run or gives no numbers' if difference != difference else
      f'gives other numbers (by {difference:.2g})')


def differences(folder: str, tolerance: float = TOLERANCE) -> Dict[str, float]:
  """{file: by how much its probabilities differ at most}, measured in a process that cannot
  import this package.

  Raises:
    FailedError: where one cannot be loaded there, or gives something else; but for those
      that a converter made, see `take_out_misconverted`.
  """
  # By a path from there: what is above it may have brackets, see `maml_tf.paths`.
  done = subprocess.run([sys.executable, check_exported_path(), '.'],
                        capture_output=True, text=True, check=False, cwd=folder)
  found = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()
           if line.startswith('adapt')}
  wrong = [name for name, difference in found.items()
           if not difference <= tolerance and name not in CONVERTED]
  if done.returncode or wrong or not found:
    lines = done.stderr.strip().splitlines()
    raise FailedError(f'What was written to {folder} does not give the same numbers in a '
                      f'process of its own ({", ".join(wrong) or (lines or ["?"])[-1]}): do '
                      'not use it.')
  return found
