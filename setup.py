"""What pyproject.toml cannot say: the committed results lie beside the package, and are
installed within it. Records and weights alone, which `--pretrained` needs."""

from setuptools import find_packages, setup

RESULTS = 'maml_tf.results'

setup(
    packages=[*find_packages(include=['maml_tf*', 'flags*', 'data_scripts*']), RESULTS],
    package_dir={RESULTS: 'results'},
    package_data={'flags': ['*.flags'], 'maml_tf.verification': ['plan.csv'],
                  RESULTS: ['*/seed*.json', '*/seed*.npz']},
    include_package_data=False)
