"""What folders, tables and pickles of a split are called."""

from __future__ import annotations

import pytest

from data_scripts.split_names import split_of

NAMES = {
    'train': ['train', 'Train', 'TRAIN', 'training', 'base', 'meta-train', 'MetaTrain',
              'metatrain', 'images_train', 'mini-imagenet-cache-train', 'train_train',
              'miniImageNet_category_split_train_phase_train', 'training set', 'trainset',
              'traindata'],
    'val': ['val', 'Val', 'valid', 'Validation', 'validate', 'dev', 'meta_val', 'images-val',
            'miniImageNet_category_split_val', 'mini_imagenet_val', 'val (1)'],
    'test': ['test', 'TEST', 'testset', 'Testing', 'novel', 'eval', 'evaluation', 'metatest',
             'mini-imagenet-cache-test', 'test_images'],
    None: ['', 'images', 'n01532829', 'dog', 'trainval', 'train_val', 'latest', 'tests',
           'miniImageNet_category_split_train_phase_val', 'mini-imagenet', 'basement',
           'images_background', 'dataset', 'asset']}


@pytest.mark.parametrize('split, name', [(split, name) for split, names in NAMES.items()
                                         for name in names])
def test_usual_names(split, name):
  assert split_of(name) == split
