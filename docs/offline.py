"""Formulas and flowcharts as drawings within a page: what is usual for both loads scripts from elsewhere."""

import re
from dataclasses import dataclass
from html import escape

from docutils import nodes
from docutils.parsers.rst import Directive

FORMULA_SIZE = 12
"""Points that a formula is laid out at; on the page it is as large as the text around it."""
EM = 1.08 * FORMULA_SIZE
LETTERS = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}
"""What SVG calls matplotlib's steps of a path, and how many points each takes."""
MOST_ARROWS = 20
LETTER, LINE, PADDING, GAP, RISE = 7.2, 17, 12, 22, 44
"""Pixels of a flowchart: width of a letter, height of a line, within a box, between boxes and between rows."""


def setup(app) -> None:
    """Register both with Sphinx."""
    app.add_html_math_renderer("paths", (visit_inline, None), (visit_block, None))
    app.add_directive("mermaid", Flowchart)


def visit_inline(translator, node: nodes.math) -> None:
    """A formula within a line."""
    translator.body.append(draw_formula(node.astext()))
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block) -> None:
    """A formula on lines of its own; an empty line begins another."""
    lines = (f"<div>{draw_formula(line)}</div>" for line in re.split(r"\n\s*\n", node.astext().strip()))
    translator.body.append(f'<div class="formula">{"".join(lines)}</div>')
    raise nodes.SkipNode


def draw_formula(latex: str) -> str:
    """A formula as SVG in the colour of the text.

    Raises:
        ValueError: matplotlib, which lays it out, does not know a part of it.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath, TextToPath

    formula = f"${' '.join(latex.split())}$"
    with mpl.rc_context({"mathtext.fontset": "stix"}):
        font = FontProperties(size=FORMULA_SIZE)
        path = TextPath((0, 0), formula, prop=font)
        width, height, depth = TextToPath().get_text_width_height_descent(formula, font, ismath=True)
    points, codes, steps = path.vertices, path.codes, []
    place = 0
    while place < len(codes):
        letter, n_points = LETTERS[int(codes[place])]
        numbers = "" if letter == "Z" else " ".join(f"{x:.2f} {-y:.2f}" for x, y in points[place : place + n_points])
        steps.append(f"{letter}{numbers}")
        place += n_points
    return (
        f'<svg class="formula" role="img" aria-label="{escape(latex)}" viewBox="0 {depth - height:.2f} {width:.2f} '
        f'{height:.2f}" style="width:{width / EM:.2f}em;height:{height / EM:.2f}em;vertical-align:{-depth / EM:.2f}em">'
        f'<path d="{"".join(steps)}"/></svg>'
    )


class Flowchart(Directive):
    """A Mermaid flowchart, of which these pages use little: boxes, arrows, labels."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The drawing."""
        try:
            drawing = draw_flowchart("\n".join(self.content))
        except ValueError as error:
            raise self.error(str(error)) from None
        return [nodes.raw("", drawing, format="html")]


@dataclass
class Box:
    """A node of a flowchart: its text and, once laid out, its row and its left and upper edge."""

    lines: list[str]
    row: int = 0
    x: float = 0
    y: float = 0

    @property
    def width(self) -> float:
        """In pixels."""
        return max(map(len, self.lines)) * LETTER + 2 * PADDING

    @property
    def height(self) -> float:
        """In pixels."""
        return len(self.lines) * LINE + PADDING


@dataclass(frozen=True)
class Arrow:
    """From one node to another."""

    source: str
    target: str
    label: str
    dotted: bool


def draw_flowchart(source: str) -> str:
    """A flowchart as SVG, from top to bottom: a node stands below all that point at it.

    Raises:
        ValueError: a line is not understood.
    """
    boxes, arrows = read_flowchart(source)
    if len(arrows) > MOST_ARROWS:
        return draw_table(boxes, arrows)
    # Arrows back up, such as that of a loop, do not push.
    for _ in boxes:
        for arrow in arrows:
            if not is_back(arrow, arrows):
                boxes[arrow.target].row = max(boxes[arrow.target].row, boxes[arrow.source].row + 1)
    rows = [[box for box in boxes.values() if box.row == row] for row in range(max(b.row for b in boxes.values()) + 1)]
    widths = [sum(box.width for box in row) + GAP * (len(row) - 1) for row in rows]
    y = 0.0
    for row, width in zip(rows, widths, strict=True):
        x = (max(widths) - width) / 2
        for box in row:
            box.x, box.y = x, y
            x += box.width + GAP
        y += max(box.height for box in row) + RISE
    parts = [*(_draw_arrow(boxes, arrow) for arrow in arrows), *map(_draw_box, boxes.values())]
    parts += [_draw_label(boxes, arrow) for arrow in arrows if arrow.label]
    width, height = max(widths) + 40, y - RISE + 10
    return (
        f'<svg class="flowchart" role="img" aria-label="flowchart" width="{width:.0f}" viewBox="-20 -5 {width:.0f} '
        f'{height:.0f}">{"".join(parts)}</svg>'
    )


def draw_table(boxes: dict[str, Box], arrows: list[Arrow]) -> str:
    """A flowchart as a table, from rows to columns, where so many arrows would hide each other."""
    names = {name: escape(" ".join(box.lines)) for name, box in boxes.items()}
    targets = [name for name in names if any(arrow.target == name for arrow in arrows)]
    labels = {(arrow.source, arrow.target): "" for arrow in arrows}
    for arrow in arrows:
        labels[arrow.source, arrow.target] += f"{escape(arrow.label)} "
    head = "".join(f"<th>{names[name]}</th>" for name in targets)
    cells = {name: "".join(f"<td>{labels.get((name, target), '')}</td>" for target in targets) for name in names}
    rows = "".join(f"<tr><th>{names[name]}</th>{cells[name]}</tr>" for name in names)
    return (
        '<div class="table-wrapper"><table class="docutils align-default">'
        f"<thead><tr><th>from, to</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def read_flowchart(source: str) -> tuple[dict[str, Box], list[Arrow]]:
    """Nodes by name, and arrows, of Mermaid's text."""
    node = r'(\w+)(?:\[\(?"?(.*?)"?\)?\])?'
    link = r'\s*(-->|-\.->|--\s*"(.*?)"\s*-->|-\.\s*"(.*?)"\s*\.->)(?:\|"?(.*?)"?\|)?\s*'
    boxes: dict[str, Box] = {}
    arrows = []
    for line in source.strip().splitlines()[1:]:
        line, before, place = line.strip(), None, 0
        while place < len(line):
            found = re.compile(node).match(line, place)
            if not found:
                raise ValueError(f"not understood in a flowchart: {line}")
            name, text = found.groups()
            if name not in boxes or text:
                boxes[name] = Box(_wrap(text or name))
            if before:
                source_name, kind, label = before
                arrows.append(Arrow(source_name, name, label, kind.startswith("-.")))
            linked = re.compile(link).match(line, found.end())
            if not linked and found.end() != len(line):
                raise ValueError(f"not understood in a flowchart: {line}")
            before = (name, linked[1], linked[2] or linked[3] or linked[4] or "") if linked else None
            place = linked.end() if linked else len(line)
    return boxes, arrows


def is_back(arrow: Arrow, arrows: list[Arrow]) -> bool:
    """Whether an arrow closes a circle of those before it."""
    reached, before = {arrow.target}, arrows[: arrows.index(arrow)]
    for _ in before:
        reached |= {one.target for one in before if one.source in reached}
    return arrow.source in reached


def _wrap(text: str, longest: int = 34) -> list[str]:
    import textwrap

    return textwrap.wrap(text, longest) or [""]


def _ends(boxes: dict[str, Box], arrow: Arrow) -> tuple[float, float, float, float]:
    source, target = boxes[arrow.source], boxes[arrow.target]
    if source.row < target.row:
        return source.x + source.width / 2, source.y + source.height, target.x + target.width / 2, target.y
    return source.x + source.width, source.y + source.height / 2, target.x + target.width, target.y + target.height / 2


def _draw_arrow(boxes: dict[str, Box], arrow: Arrow) -> str:
    x, y, to_x, to_y = _ends(boxes, arrow)
    dotted = ' class="dotted"' if arrow.dotted else ""
    if boxes[arrow.source].row < boxes[arrow.target].row:
        bend = (to_y - y) / 2
        line = f"M{x:.0f} {y:.0f}C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y:.0f}"
        head = f"M{to_x:.0f} {to_y:.0f}l-4 -8h8z"
    else:
        side = max(x, to_x) + 60
        line = f"M{x:.0f} {y:.0f}C{side:.0f} {y:.0f} {side:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        head = f"M{to_x:.0f} {to_y:.0f}l8 -4v8z"
    return f'<path d="{line}"{dotted}/><path class="head" d="{head}"/>'


def _draw_label(boxes: dict[str, Box], arrow: Arrow) -> str:
    x, y, to_x, to_y = _ends(boxes, arrow)
    x, to_x = (x, to_x) if boxes[arrow.source].row < boxes[arrow.target].row else (max(x, to_x) + 45,) * 2
    return f'<text class="label" x="{(x + to_x) / 2:.0f}" y="{(y + to_y) / 2 + 4:.0f}">{escape(arrow.label)}</text>'


def _draw_box(box: Box) -> str:
    x, y = box.x + box.width / 2, box.y + PADDING / 2 + 0.75 * LINE
    lines = "".join(
        f'<text x="{x:.0f}" y="{y + LINE * number:.0f}">{escape(line)}</text>' for number, line in enumerate(box.lines)
    )
    return f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="5"/>{lines}'
