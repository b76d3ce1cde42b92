"""Hooks of MkDocs (mkdocs.yml): pages that do not lie in docs/, and links that lead out of it.

No page is copied by hand. Those of ``extra.outside`` come from their own files, the notebook as cells and outputs, and
``api/MODULE.md`` from docstrings. Links are those that are right in the repository: here they are turned to the site's
pages, and files of the repository that pages link to are put beside them, below ``source/``.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
API = re.compile(r"api/([\w.]+)\.md")
FENCED = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)\s*?$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
ROLE = re.compile(r":(?:class|func|meth|data|mod|attr|exc|obj):(?=<code>)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name headings as the usual hosts of repositories do, so that links to them hold in both places."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/, and the files of the repository that pages link to."""
    for uri, path in config.extra["outside"].items():
        text = (ROOT / path).read_text(encoding="utf-8")
        content = notebook_page(text) if path.endswith(".ipynb") else text
        files.append(File.generated(config, uri, content=content))
    for uri in entries(config.nav):
        if module := API.fullmatch(uri):
            files.append(File.generated(config, uri, content=api_page(module[1])))
    for page in files.documentation_pages():
        for _, target, _, _ in LINK.findall(FENCED.sub("", page.content_string)):
            path = in_repository(page.src_uri, target, config)
            uri = in_site(path, config)
            if (ROOT / path).is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that hold in the repository into the site's. Others stay, and MkDocs tells of them."""

    def turned(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups(default="")
        uri = in_site(in_repository(page.file.src_uri, target, config), config)
        if "://" in target or files.get_file_from_path(uri) is None:
            return match[0]
        return before + posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") + anchor + after

    parts = FENCED.split(markdown)  # text, a block, its fence, text, ...
    return "".join(LINK.sub(turned, part) if i % 3 == 0 else part for i, part in enumerate(parts) if i % 3 < 2)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take the words of roles, as in :class:`Name`, out of docstrings."""
    return ROLE.sub("", html) if API.fullmatch(page.file.src_uri) else html


def entries(nav: Any) -> list[str]:
    """Return the paths that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [uri for child in children for uri in entries(child)]


def api_page(module: str) -> str:
    """Return the page of a module's public names.

    Names that submodules have too, as the function ``mask2former.ops.ms_deform_attn``, are asked for one by one: read
    without being run, they are the submodules, which are not public.
    """
    package = ROOT / module.replace(".", "/") / "__init__.py"
    tree = ast.parse(package.read_text(encoding="utf-8") if package.is_file() else "")
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    hidden = [
        f"{node.module}.{name.name}"
        for node in imports
        for name in node.names
        if node.module == f"{module}.{name.name}"
    ]
    more = [f"::: {name}\n    options: {{show_root_heading: true}}\n" for name in hidden]
    return "\n".join([f"# {module}\n", f"::: {module}\n", *more])


def in_repository(page: str, target: str, config: MkDocsConfig) -> str:
    """Return the path below the repository's root that a page's link leads to."""
    home = config.extra["outside"].get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), target))


def in_site(path: str, config: MkDocsConfig) -> str:
    """Return the place in the site of a file of the repository."""
    pages = {source: uri for uri, source in config.extra["outside"].items()}
    return pages.get(path) or (path[len("docs/") :] if path.startswith("docs/") else f"source/{path}")


def notebook_page(text: str) -> str:
    """Return a notebook as Markdown: its cells with their outputs, images inside the page."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                image = "".join(data["image/png"]).replace("\n", "")
                parts.append(f'<img alt="what the cell shows" src="data:image/png;base64,{image}">')
            elif said := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(f"```text\n{said.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
