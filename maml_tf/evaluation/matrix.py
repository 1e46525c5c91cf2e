"""`python -m maml_tf.evaluation.matrix`: the name that `maml_tf.matrix` had before."""

import sys

from maml_tf.matrix import main

if __name__ == '__main__':
  sys.exit(main())
