"""Any built Keras model as a learner, under Keras 2.15 and Keras 3."""
