"""How Sphinx builds these pages: `make docs`. Every page it makes opens from the disk and fetches nothing."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs import offline

project = "MTL-SA"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "MTL-SA"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_css_files = ["offline.css"]
html_static_path = ["_static"]
html_math_renderer = "paths"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
nitpicky = True


def setup(app):
    """What the pages need beyond Sphinx: formulas and flowcharts as drawings within them."""
    offline.setup(app)
    app.connect("source-read", link_to_clone)


def link_to_clone(app, name, source):
    """Let links to pages outside this folder open the file in the clone, three folders above what is built."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)\s]+\.md)\)", r'<a href="../../../\2">\1</a>', source[0])
