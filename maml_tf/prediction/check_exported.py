"""Loads what `python -m maml_tf.export` wrote, where there is no maml_tf, and compares.

  python check_exported.py FOLDER

FOLDER/check.npz has inputs, and the outputs that are expected of them. Prints a line for each
file: its name, and by how much its outputs differ at most; 'nan' for what a converter made and
its runtime cannot run or load. Needs TensorFlow alone.
"""

import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.modules['maml_tf'] = None   # an import of it fails

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def of_signatures(folder, given):
  """`adapt` and `predict` of a SavedModel, one after the other."""
  loaded = tf.saved_model.load(folder)
  adapted = loaded.signatures['adapt'](images=tf.constant(given['support_images']),
                                       labels=tf.constant(given['support_labels']))
  return loaded.signatures['predict'](
      images=tf.constant(given['images']), **adapted)['probabilities'].numpy()


def of_keras(path, given):
  return np.asarray(tf.keras.models.load_model(path)(given['images']))


def of_saved_model(folder, given):
  signature = tf.saved_model.load(folder).signatures['serving_default']
  [name] = signature.structured_input_signature[1]
  return next(iter(signature(**{name: tf.constant(given['images'])}).values())).numpy()


def of_tflite(path, given):
  interpreter = tf.lite.Interpreter(model_path=path)
  place = interpreter.get_input_details()[0]['index']
  interpreter.resize_tensor_input(place, given['images'].shape)
  interpreter.allocate_tensors()
  interpreter.set_tensor(place, given['images'])
  interpreter.invoke()
  return interpreter.get_tensor(interpreter.get_output_details()[0]['index'])


def of_onnx(path, given):
  import onnxruntime
  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  return session.run(None, {session.get_inputs()[0].name: given['images']})[0]


# Made by converters of others, which are not right in every version; and what Keras may not
# load without the code of layers of one's own.
CONVERTED = ('adapted.keras', 'adapted.tflite', 'adapted.onnx')
READERS = {'adaptation': of_signatures, 'adapted.keras': of_keras,
           'adapted_saved_model': of_saved_model, 'adapted.tflite': of_tflite,
           'adapted.onnx': of_onnx}


def main(folder):
  with np.load(os.path.join(folder, 'check.npz')) as given:
    given = dict(given)
  for name, read in READERS.items():
    path = os.path.join(folder, name)
    if os.path.exists(path):
      print(f'{name} {difference(name, read, path, given):.2g}')


def difference(name, read, path, given):
  try:
    return np.abs(read(path, given) - given['probabilities']).max()
  except Exception as error:   # whatever a runtime raises
    if name not in CONVERTED:
      raise
    print(f'{name}: {type(error).__name__}: {error}', file=sys.stderr)
    return np.nan


if __name__ == '__main__':
  main(sys.argv[1])
