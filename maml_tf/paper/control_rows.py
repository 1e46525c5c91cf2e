"""The paper's returns in reinforcement learning (figure 5; figure 4's points; appendix C).

Means over 40 held-out tasks with half of their 95% intervals, of the raw data that the
authors published with the figures (tasks' returns; the text has the curves alone). After
one update of an adapted policy rows are judged: that is the figure's claim.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

Values = Tuple[str, ...]   # after 0, 1, 2, 3 updates


class Returns(NamedTuple):
  """Of one environment: MAML, and what it is compared with."""
  label: str
  place: str
  maml: Values
  pretrained: Values
  random: Values
  oracle: str
  context_vector: Values = ()


RETURNS: Dict[str, Returns] = {
    'point_navigation': Returns(
        'Point navigation', 'figure 4',
        ('-40.4 +- 4.1', '-11.7 +- 2.2', '-3.3 +- 0.6', '-3.2 +- 0.6'),
        ('-40.8 +- 4.1', '-19.7 +- 3.0', '-11.7 +- 1.7', '-8.5 +- 0.5'),
        ('-82.7 +- 2.2', '-58.0 +- 1.9', '-53.8 +- 1.6', '-46.8 +- 1.3'),
        '-2.3 +- 0.1',
        # Printed without intervals, in appendix C.
        ('-42.4', '-13.9', '-5.2', '-3.2')),
    'cheetah_direction': Returns(
        'Half-cheetah, direction', 'figure 5',
        ('-50.7 +- 5.8', '293.2 +- 17.2', '313.5 +- 16.0', '315.7 +- 14.0'),
        ('-43.0 +- 11.8', '-24.7 +- 9.4', '-12.8 +- 8.7', '19.6 +- 11.4'),
        ('-35.7 +- 1.3', '21.8 +- 2.9', '62.3 +- 5.1', '86.2 +- 9.8'),
        '442.7 +- 8.5',
        ('-40.5', '-44.1', '-38.3', '-42.5')),
    'cheetah_velocity': Returns(
        'Half-cheetah, velocity', 'figure 5',
        ('-129.5 +- 16.7', '-78.6 +- 10.0', '-66.6 +- 9.0', '-60.8 +- 8.7'),
        ('-158.0 +- 17.6', '-135.4 +- 15.2', '-128.5 +- 14.2', '-133.6 +- 16.7'),
        ('-254.8 +- 36.2', '-254.3 +- 35.1', '-246.8 +- 35.8', '-230.8 +- 34.6'),
        '-54.5 +- 7.0'),
    'ant_direction': Returns(
        'Ant, direction', 'figure 5',
        ('8.7 +- 14.4', '499.1 +- 32.5', '500.7 +- 31.9', '499.1 +- 32.9'),
        ('3.2 +- 15.4', '1.3 +- 13.7', '6.5 +- 13.9', '6.9 +- 11.8'),
        ('3.1 +- 4.1', '9.2 +- 4.4', '16.0 +- 3.5', '26.1 +- 0.1'),
        '524.8 +- 12.6'),
    'ant_velocity': Returns(
        'Ant, velocity', 'figure 5',
        ('30.6 +- 30.4', '96.7 +- 21.0', '100.1 +- 21.7', '101.4 +- 21.3'),
        ('-1.8 +- 34.6', '6.1 +- 34.8', '8.5 +- 34.9', '9.5 +- 37.0'),
        ('-78.6 +- 34.8', '-62.8 +- 35.2', '-48.5 +- 34.5', '-35.6 +- 30.3'),
        '107.9 +- 20.2'),
}
