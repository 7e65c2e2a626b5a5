"""Sphinx: MyST Markdown and furo. Nothing of the package is imported, so that no Django is needed."""

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent / "rmq_publisher" / "__init__.py"

project = "rmq_publisher"
author = "The rmq_publisher maintainers"
project_copyright = "The rmq_publisher maintainers"
release = re.search(r'^__version__ = "(.+)"$', _PACKAGE.read_text("utf-8"), re.MULTILINE)[1]
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

exclude_patterns = ["_build"]
maximum_signature_line_length = 90
html_theme = "furo"
html_title = f"rmq_publisher {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
