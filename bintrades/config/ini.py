"""INI text with the place of everything in it.

The dialect is the one of Python's configparser without interpolation: [section], `option = value`
or `option: value`, values that go on in lines indented deeper, whole-line comments after # or ;
and inline ones after a space and ;. configparser itself stops at the first double and forgets
the lines, so it cannot say everything that is wrong with a file at once, in the file's order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bintrades.util.text import one_line

_NEWLINE = re.compile(r"\r\n|\r|\n")
_COMMENT = re.compile(r"(?:^\s*[#;]|\s;).*", re.DOTALL)
_HEADER = re.compile(r"\[([^\]]+)\]")
_OPTION = re.compile(r"([^=:]+)[=:](.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Header:
    """A [section] and the number of its line, counted from 1."""

    section: str
    line: int


@dataclass(slots=True)
class Entry:
    """One option of a section; a value of several lines keeps them, joined by newlines."""

    section: str
    option: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Ini:
    """What a text holds, doubles included, and (line, problem) for what it should not."""

    headers: list[Header] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read_ini(text: str) -> Ini:
    """Read *text* to its end, whatever is wrong with it."""
    reader = _Reader()
    for number, line in enumerate(_NEWLINE.split(text), start=1):
        content = _COMMENT.sub("", line).rstrip()
        if content:
            reader.read(number, content)
    return reader.ini


class _Reader:
    """The state between two lines: the section, and the option whose value may still go on."""

    def __init__(self) -> None:
        self.ini = Ini()
        self._section: str | None = None
        self._entry: Entry | None = None
        self._indent = 0
        self._may_continue = False
        self._lines: dict[tuple[str, str | None], int] = {}

    def read(self, line: int, content: str) -> None:
        text = content.lstrip()
        indent = len(content) - len(text)
        if self._may_continue and indent > self._indent:
            self._continue(text)
            return
        self._indent = indent
        self._may_continue = False
        if header := _HEADER.fullmatch(text):
            self._open_section(line, header[1].strip())
        elif self._section is None:
            self._refuse_before_first_section(line, text)
        else:
            self._may_continue = True
            self._open_entry(line, text, self._section)

    def _continue(self, text: str) -> None:
        if self._entry is not None:
            self._entry.value = f"{self._entry.value}\n{text}".lstrip("\n")

    def _open_section(self, line: int, name: str) -> None:
        first = self._lines.setdefault((name, None), line)
        if first != line:
            self._problem(line, f"[{one_line(name)}] again, first on line {first}; keep one")
        self._section = name
        self.ini.headers.append(Header(name, line))

    def _open_entry(self, line: int, text: str, section: str) -> None:
        self._entry = None
        option = _OPTION.fullmatch(text)
        if option is None:
            self._problem(line, f"{one_line(text, 40)!r} is neither [section] nor option = value")
            return
        name = option[1].strip()
        first = self._lines.setdefault((section, name), line)
        if first != line:
            where = f"[{one_line(section)}] {one_line(name)}"
            self._problem(line, f"{where} again, first on line {first}; keep one")
        self._entry = Entry(section, name, option[2].strip(), line)
        self.ini.entries.append(self._entry)

    def _refuse_before_first_section(self, line: int, text: str) -> None:
        if not self.ini.problems:  # a file of another format would fill the screen
            name = one_line(re.split("[=:]", text, maxsplit=1)[0], 40)
            self._problem(line, f"{name!r} stands before the first [section]")

    def _problem(self, line: int, text: str) -> None:
        self.ini.problems.append((line, f"line {line}: {text}"))
