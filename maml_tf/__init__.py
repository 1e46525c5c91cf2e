"""Model-Agnostic Meta-Learning (Finn, Abbeel, Levine, ICML 2017) in TensorFlow 2."""
