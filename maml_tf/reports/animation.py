"""A task before and after each update, as an animated GIF. Needs no display."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from maml_tf.errors import ConfigError
from maml_tf.files import whole_file
from maml_tf.measures import phase_name
from maml_tf.rl.environments import Drawing, Environment
from maml_tf.rl.evaluation import Protocol, adapted_rollouts
from maml_tf.rl.policy_learner import PolicyLearner
from maml_tf.rl.streams import EVALUATION, stream

WIDTH, HEIGHT, MARGIN = 240, 240, 18
INK, GROUND, TRACE, GOAL = '#1f2937', '#9ca3af', '#2563eb', '#dc2626'
MOST_FRAMES = 100
_SEED = 0   # of the rollouts


def save_animation(path: str, model: PolicyLearner, task, rollouts: int, num_updates: int
                   ) -> int:
  """Writes the first rollouts of policies before and after each update, side by side.

  Args:
    path: of the file.
    model: the trained policy.
    task: of its environment.
    rollouts: K, of the task before each update.
    num_updates: panels are one more.

  Returns:
    How many frames it has.

  Raises:
    ConfigError: for an environment that does not say what there is to see.
  """
  environment = model.learning.environment
  protocol = Protocol(task_seed=_SEED, rollouts=rollouts, budget='rollouts',
                      step_sizes=model.step_sizes(num_updates))
  panels, titles = [], []
  for phase, trajectories in enumerate(
      adapted_rollouts(model.learning, model.theta(), [task], protocol)):
    actions = trajectories.actions[0, 0, :trajectories.lengths[0, 0]]
    panels.append(_replayed(environment, task, actions,
                            stream(model.learning.seed, EVALUATION, _SEED, phase, 0, 0)))
    titles.append((phase_name(phase), trajectories.rewards[0, 0]))
  frames = _frames(panels, titles)
  with whole_file(path, 'wb') as file:
    frames[0].save(file, format='GIF', save_all=True, append_images=frames[1:],
                   duration=50, loop=0)
  return len(frames)


def _replayed(environment: Environment, task, actions: np.ndarray,
              random: np.random.Generator) -> List[Drawing]:
  """The scenes of an episode, acted again: its numbers depend on its stream alone."""
  simulation = environment.start(_as_tasks(task), [random])
  scenes = [_scene(environment, simulation)]
  for action in actions:
    simulation.step(action[np.newaxis], np.array([True]))
    scenes.append(_scene(environment, simulation))
  return scenes


def _as_tasks(task) -> Sequence:
  return np.asarray(task)[np.newaxis] if isinstance(task, np.ndarray) else [task]


def _scene(environment: Environment, simulation) -> Drawing:
  drawn = simulation.drawing(0)
  if drawn is None:
    raise ConfigError(f'{environment.name} does not say what there is to see of it '
                      '(Simulation.drawing): it cannot be drawn.')
  return drawn


def _frames(panels: Sequence[List[Drawing]], titles) -> List[Image.Image]:
  last = max(map(len, panels)) - 1   # whose sums of rewards are the returns
  every = max(-(-last // (MOST_FRAMES - 1)), 1)
  return [_frame(panels, titles, time) for time in (*range(0, last, every), last)]


def _frame(panels: Sequence[List[Drawing]], titles, time: int) -> Image.Image:
  image = Image.new('RGB', (WIDTH * len(panels), HEIGHT + MARGIN), 'white')
  draw = ImageDraw.Draw(image)
  for place, (scenes, (name, rewards)) in enumerate(zip(panels, titles)):
    now = min(time, len(scenes) - 1)
    part = Image.new('RGB', (WIDTH, HEIGHT), 'white')
    _draw_scene(ImageDraw.Draw(part), scenes[:now + 1])
    image.paste(part, (WIDTH * place, MARGIN))
    draw.text((WIDTH * place + 6, 3), f'{name}: {rewards[:now].sum():.0f}', fill=INK)
    draw.line([(WIDTH * place, 0), (WIDTH * place, HEIGHT + MARGIN)], fill=GROUND)
  return image


def _draw_scene(draw: ImageDraw.ImageDraw, scenes: Sequence[Drawing]) -> None:
  scene = scenes[-1]
  scale = WIDTH / (2 * scene.reach)
  def place(point) -> Tuple[float, float]:
    x, y = (np.asarray(point) - scene.centre) * scale
    return WIDTH / 2 + x, HEIGHT / 2 - y
  _draw_grid(draw, scene, place)
  trace = [place(earlier.centre if scene.goal is None else earlier.lines[0, 0])
           for earlier in scenes]
  if len(trace) > 1:
    draw.line(trace, fill=TRACE, width=1)
  for (start, end), width in zip(scene.lines, scene.widths):
    radius = max(1.0, width * scale)
    draw.line([place(start), place(end)], fill=INK, width=int(round(2 * radius)))
    for point in (start, end):
      x, y = place(point)
      draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=INK)
  if scene.goal is not None:
    x, y = place(scene.goal)
    draw.line([(x - 6, y), (x + 6, y)], fill=GOAL, width=2)
    draw.line([(x, y - 6), (x, y + 6)], fill=GOAL, width=2)


def _draw_grid(draw: ImageDraw.ImageDraw, scene: Drawing, place) -> None:
  """Lines of the ground, so that one sees how far it goes."""
  step = scene.reach / 2
  first = np.floor((scene.centre[0] - scene.reach) / step) * step
  for x in np.arange(first, scene.centre[0] + scene.reach + step, step):
    draw.line([place((x, scene.centre[1] - scene.reach)),
               place((x, scene.centre[1] + scene.reach))], fill='#e5e7eb')
