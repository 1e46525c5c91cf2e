"""The command line of `main.py`: the only place that reads flags.

`main_config(sys.argv)` is what an entry point calls; `parse` is the same as a
function without side effects. Both give a checked `maml_tf.config.Config`, and
nothing below the entry point knows that there are flags.
"""

from __future__ import annotations

import difflib
import os
import platform
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from absl import flags as absl_flags

import maml_tf
from flags import definitions
from maml_tf import from_file, outputs, problems
from maml_tf.before_tensorflow import set_environment
from maml_tf.config import TRUST_REGION, Config, ConfigError, resolve, section_fields
from maml_tf.config.fits import OWNED

__all__ = ['flag_names', 'help_text', 'main_config', 'parse']

_HELP_ARGUMENTS = {'--help', '-help', '-h', '-?', '--helpfull', '--helpshort'}
_ON_THE_COMMAND_LINE = ('help', 'version')   # alone, and in no flagfile
_LARGEST_FLAGFILE = 2**16   # bytes; absl's time grows with the square of it
# Of a value in a flagfile: quotes around it, a comment or a line's continuation behind it.
_LEFT_TO_A_SHELL = r'^([\'"]).*\1$|\s(#|\\$)'
_LONGEST_NAME = 100         # characters of a flag; absl compares it with all that exist
_LONGEST_WORD = 200         # characters of what a message quotes
_MOST_MEANT = 3             # flags that it asks for
_MISSPELT = 0.9             # the likeness of a name and one with a letter wrong

flag_names = definitions.names
help_text = definitions.help_text


def main_config(argv: Sequence[str], program: str = 'main.py',
                several_devices: bool = False) -> Config:
  """The configuration of a command line; for help or a mistake it ends the program.

  Args:
    argv: the command line, `argv[0]` being the program.
    program: under whose name a mistake is reported.
    several_devices: whether it can use them.

  Raises:
    SystemExit: with code 0 after --help or --version; with code 2 for a command line that
      cannot be run, after one sentence on stderr.
  """
  if _HELP_ARGUMENTS.intersection(argv[1:]):
    with outputs.lasting():   # its reader may be gone
      print(help_text(), end='')
    sys.exit(0)
  if '--version' in argv[1:]:
    print(f'maml-tf {maml_tf.__version__}, Python {platform.python_version()}')
    sys.exit(0)
  set_environment()   # a file that --method names is loaded, and TensorFlow with it
  try:
    config = parse(argv)
    strategy = config.run.distribution_strategy
    if strategy != 'off' and not several_devices:
      raise ConfigError(f'--distribution_strategy={strategy} is not possible here: {program} '
                        'uses one device, so leave it out.')
    return config
  except ConfigError as error:
    print(f'{program}: {_in_one_line(str(error))}', file=sys.stderr)
    sys.exit(2)


def _in_one_line(text: str) -> str:
  """`text` as it may be shown: what it quotes can be long, and can hold anything."""
  words = (word if len(word) <= _LONGEST_WORD else f'{word[:_LONGEST_WORD]}...'
           for word in text.split())
  return ''.join(character if character.isprintable() else ascii(character)[1:-1]
                 for character in ' '.join(words))


def parse(argv: Sequence[str]) -> Config:
  """The configuration of a command line: what it gives, and the paper's values.

  Args:
    argv: the command line, `argv[0]` being the program.

  Raises:
    ConfigError: for a flag, a value, a flagfile or a combination that is not
      allowed.
  """
  arguments = _with_flagfiles(list(argv[1:]))
  values = definitions.define()
  try:
    _, *left_over = values(['main.py', *arguments])
  except absl_flags.UnrecognizedFlagError as error:
    raise ConfigError(_unknown_flag(error.flagname, error.flagvalue,
                                    _without_meaning(values))) from None
  except ConfigError:
    raise
  except (absl_flags.Error, ValueError) as error:   # --seed without value, --notrain=3
    raise ConfigError(f'{str(error).rstrip(".")}.') from None
  if left_over:
    raise ConfigError(_left_over_argument(left_over[0], arguments))
  given = {name: values[name].value for name in flag_names()
           if values[name].value is not None}
  if given.get('baseline') == '':
    given['baseline'] = 'None'   # a TF1 command's `--baseline=`
  return resolve(given)


def _with_flagfiles(arguments: list[str]) -> list[str]:
  """`arguments` with the lines of each --flagfile in its place."""
  expanded = []
  rest = iter(arguments)
  for argument in rest:
    name, has_value, value = split_argument(argument)
    if name == 'undefok':
      # absl's own flag, with which a misspelt flag would pass unnoticed.
      raise ConfigError(_unknown_flag(name, argument))
    if name != 'flagfile':
      expanded.append(argument)
      continue
    if not has_value:
      value = next(rest, '')
    expanded.extend(_flagfile_lines(value))
  for argument in expanded:
    name, _, _ = split_argument(argument)
    if name is not None and len(name) > _LONGEST_NAME:
      raise ConfigError(_unknown_flag(name, argument))
  return expanded


def split_argument(argument: str):
  """(name, '=' or '', value) of a flag; the name of anything else is None."""
  found = re.fullmatch(r'--?([^-=][^=]*)(=?)(.*)', argument, re.DOTALL)
  return found.groups() if found else (None, '', '')


def _flagfile_lines(path: str) -> list[str]:
  lines = []
  for number, line in enumerate(_flagfile_text(path).splitlines(), start=1):
    line = line.strip()
    if not line or line.startswith(('#', '//')):
      continue
    name, _, value = split_argument(line)
    if name is not None and name.split()[:1] == ['flagfile']:
      raise ConfigError(f'--flagfile={path} names another flagfile in line {number} '
                        f'({line}): give each of them on the command line.')
    if name is None or re.search(r'\s', name):
      raise ConfigError(f'--flagfile={path} has {line!r} in line {number}: it must be '
                        '--FLAG=VALUE, or a comment that starts with #.')
    if re.match(r'\s', value) or re.search(_LEFT_TO_A_SHELL, value):
      raise ConfigError(f'--flagfile={path} has {line!r} in line {number}: no shell reads it, '
                        'so leave quotes, blanks around the value and a backslash behind it '
                        'out, and give a comment a line of its own.')
    lines.append(line)
  return lines


def _flagfile_text(path: str) -> str:
  if not path:
    raise ConfigError('--flagfile lacks a value: it must name a file with flags.')
  try:
    with open(_place_of(path), 'rb') as file:
      content = file.read(_LARGEST_FLAGFILE + 1)
    if len(content) > _LARGEST_FLAGFILE:
      raise ConfigError(f'--flagfile={path} is larger than 64 KiB: it must be a file with '
                        'flags.')
    return content.decode('utf-8-sig')
  except UnicodeDecodeError:
    raise ConfigError(f'--flagfile={path} is not a text file: it must be a file with '
                      'flags.') from None
  except (OSError, ValueError) as error:
    if isinstance(error, ConfigError):
      raise
    reason = getattr(error, 'strerror', None) or str(error)
    raise ConfigError(f'--flagfile={path} cannot be read ({reason}): '
                      f'{_nearest_experiment(path)}') from None


def _place_of(path: str) -> str:
  """Where a flagfile is. One of this folder is found from everywhere, as flags/NAME.flags."""
  folder, name = os.path.split(os.path.expanduser(path))
  own = Path(__file__).parent / name
  if folder == own.parent.name and not os.path.exists(path) and own.is_file():
    return str(own)
  return os.path.expanduser(path)


def _nearest_experiment(path: str) -> str:
  folder = Path(__file__).parent
  experiments = [file.stem for file in sorted(folder.glob('*.flags'))]
  # Without the extension, which would be a likeness of all.
  near = difflib.get_close_matches(Path(path).stem, experiments, n=1)
  if near:
    return f'did you mean {folder.name}/{near[0]}.flags?'
  return f'{folder.name}/ has one for each experiment of the paper.'


def _without_meaning(values: absl_flags.FlagValues) -> set[str]:
  """The flags that mean nothing with the data source, method and so on that are given."""
  found, usual = set(), {'method': 'maml', 'meta_optimizer': TRUST_REGION}
  datasource = values['datasource'].value or 'sinusoid'
  if datasource in problems.names() and not problems.named(datasource).acts:
    found.update(section_fields('control'))
  for owned in OWNED:
    given = values[owned.selector].value or usual.get(owned.selector, '')
    if given not in owned.owners and not from_file.is_spec(given):
      found.add(owned.field)
  return found


def _unknown_flag(name: str, argument: str, without_meaning: Collection[str] = ()) -> str:
  if name in _ON_THE_COMMAND_LINE:
    return (f'The flag {argument} is not allowed there: give --{name} on the command line, '
            'and without a value.')
  near = [f'--{flag}' for flag in _near_flags(name.lower(), without_meaning)]
  advice = f'did you mean {" or ".join(near)}?' if near else '--help lists all flags.'
  return f'The flag {argument} is unknown: {advice}'


def _near_flags(name: str, without_meaning: Collection[str]) -> list[str]:
  """Those that a user can have meant: one misspelt, those with these words in their names,
  else the likest one, sooner of those with a meaning than of all."""
  known = [*flag_names(), *(f'no{name}' for name in definitions.boolean_names()),
           'flagfile', 'help', 'version']
  usable = [flag for flag in known if flag not in without_meaning]
  worded = [flag for flag in usable if len(name) > 1 and f'_{name}' in f'_{flag}']
  return (difflib.get_close_matches(name, known, n=1, cutoff=_MISSPELT)
          or sorted(worded, key=len)[:_MOST_MEANT]
          or difflib.get_close_matches(name, usable, n=1)
          or difflib.get_close_matches(name, known, n=1))


def _left_over_argument(left_over: str, arguments: list[str]) -> str:
  for place, argument in enumerate(arguments[1:]):
    name, has_value, _ = split_argument(arguments[place])
    if argument == left_over and not has_value and name in definitions.boolean_names():
      return (f'The argument {left_over} after --{name} is not allowed: write '
              f'--{name}=True or --{name}=False, with an equals sign.')
  return (f'The argument {left_over!r} is not allowed: all settings are flags, '
          '--FLAG=VALUE, and --help lists them.')
