"""The fields of a configuration, by section."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Dict, List, Optional


@dataclass(frozen=True)
class TaskConfig:
  """What a task is: the data source, its ways and shots."""
  datasource: str
  data_dir: Optional[str]        # prepared data; None: data/DATASOURCE
  num_classes: int               # N, ways
  train_num_classes: int         # the same in training; -1: num_classes
  update_batch_size: int         # K, support examples per class
  train_query_size: int          # query examples per class in training
  test_query_size: int           # the same in validation and testing
  seed: int                      # of the episodes and the initialisation


@dataclass(frozen=True)
class LearnerConfig:
  """The net."""
  model: str                     # paper, resnet12, resnet18, or FILE.py:NAME
  norm: str                      # batch_norm, layer_norm, None
  num_filters: int
  conv: bool
  max_pool: bool
  dtype: str                     # float32, float64
  mixed_precision: bool          # products in bfloat16
  context_size: int              # channels (sinusoid: entries) of the context; 0: none
  full_context: bool             # features that depend on the support set (matching)
  cosine_scale: float            # of likeness (matching)
  distance_scale: float          # of squared distances (prototypical)


@dataclass(frozen=True)
class InnerLoopConfig:
  """The adaptation to one task (algorithm 1, lines 5-7)."""
  update_lr: float               # alpha
  num_updates: int
  stop_grad: bool                # first-order approximation
  inner_optimizer: str           # sgd, adam (Reptile)
  inner_batch_size: int          # examples of an inner step (Reptile); 0: all
  learned_step_sizes: str        # None, layer, layer_and_step, element
  proximal_weight: float         # lambda (iMAML)
  imaml_cg_iterations: int       # of its conjugate gradients
  multi_step_iterations: int     # in which losses of all updates count; 0: none (MAML++)
  first_order_iterations: int    # in the beginning; 0: none (MAML++)
  per_step_norm: bool            # norms of their own after each update (MAML++)


@dataclass(frozen=True)
class TrainingConfig:
  """The outer loop."""
  method: str                    # see `maml_tf/meta_learners`
  baseline: str                  # see `maml_tf/problems`
  num_averaged_nets: int         # of the baseline 'averaged'
  averaged_regulariser: str      # of its nets: None, l2, mean
  regulariser_weight: float
  pretrain_iterations: int
  metatrain_iterations: int
  meta_batch_size: int
  meta_lr: float                 # beta
  meta_lr_schedule: str          # constant, linear (falling to 0), cosine, halving
  meta_lr_half_life: int         # iterations; of the schedule 'halving'
  meta_optimizer: str
  meta_gradient_clip: float      # elementwise bound; 0: none
  tasks_at_once: int             # tasks in memory together; 0: chosen for the tasks
  recompute_inner_steps: bool    # less memory, more time
  xla: str                       # auto, on, off
  validation_interval: int       # iterations
  num_validation_tasks: int


@dataclass(frozen=True)
class ControlConfig:
  """Reinforcement learning (section 5.3, A.2); 0 or None with other data."""
  env: Optional[str]             # FILE.py:CLASS of --datasource=gym
  horizon: int                   # most steps of an episode; 0: the environment's
  discount: float                # gamma
  gae_lambda: float              # of the advantages
  pretrain_rollouts: int         # of each task in pre-training; 0: one, judged all together
  max_kl: float                  # delta, the trust region of the outer step
  cg_iterations: int             # of conjugate gradients
  cg_damping: float              # added to the Hessian's diagonal
  hessian: Optional[str]         # exact, secant
  hessian_every: int             # products see every so-manieth sample
  rollout_budget: Optional[str]  # rollouts, steps; of training
  inner_loss: Optional[str]      # log_likelihood, ratio
  test_later_step: float         # of alpha, in updates of a test beyond num_updates
  simulation_threads: int        # 0: one for each core
  simulation_processes: int      # of environments of one's own; 0: one for each core


@dataclass(frozen=True)
class EvaluationConfig:
  """The test protocol (A.1 of the paper)."""
  test_set: bool                 # True: test classes; False: validation classes
  test_iter: int                 # checkpoint of that iteration; -1: see test_checkpoint
  test_checkpoint: str           # latest, best
  num_test_tasks: int
  test_num_updates: int
  test_inner_batch_size: int     # the same as inner_batch_size
  train_update_batch_size: int   # K of the trained checkpoint; -1: update_batch_size
  train_update_lr: float         # alpha of the trained checkpoint; -1: update_lr
  tune_update_lr: bool           # alpha of the test is chosen on validation tasks


@dataclass(frozen=True)
class RunConfig:
  """What to do, and where to write."""
  train: bool
  resume: bool
  log: bool
  logdir: str
  legacy_checkpoint: Optional[str]   # TF1 checkpoint to start from, or to test; or None
  pretrained: Optional[str]          # ROW, ROW:SEED or FILE.npz, for the same; or None
  distribution_strategy: str         # off, mirrored, multi_worker_mirrored, auto
  num_gpus: int                      # of this machine; -1: all
  worker_hosts: Optional[str]        # HOST:PORT,...; None: from the environment
  task_index: int                    # of this process among them; -1: the same
  worker_timeout: int                # seconds to wait for the others


SECTIONS = {
    'task': TaskConfig,
    'learner': LearnerConfig,
    'inner_loop': InnerLoopConfig,
    'training': TrainingConfig,
    'control': ControlConfig,
    'evaluation': EvaluationConfig,
    'run': RunConfig,
}


def section_fields(section: str) -> List[str]:
  """The names of a section's fields."""
  return [field.name for field in dataclasses.fields(SECTIONS[section])]


def field_types() -> Dict[str, str]:
  """{field name: type as written}, of all sections. Field names are unique."""
  return {field.name: field.type
          for section in SECTIONS.values() for field in dataclasses.fields(section)}
