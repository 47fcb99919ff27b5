"""A page that lists the API, made from its own description. It loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #ddd; background: #16181d }
h2 { margin-top: 2rem; font-size: 1.1rem } code { color: #fff } a { color: #8ab4f8 }
td, th { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0 }
.verb { font-family: monospace; font-weight: bold; color: #8fd18f } .note { color: #aaa }
"""


def docs_page(openapi: dict[str, Any]) -> str:
    """HTML for ``/docs``."""
    title = escape(str(openapi["info"]["title"]))
    groups: dict[str, list[str]] = {}
    for path, operations in openapi["paths"].items():
        for verb, operation in operations.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_row(path, verb, operation))
    tables = "".join(f"<h2>{escape(name)}</h2><table>{''.join(rows)}</table>" for name, rows in groups.items())
    intro = "Errors are problem details (RFC 9457). For tools: <a href='openapi.json'>openapi.json</a>."
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{escape(str(openapi['info'].get('description', '')))}</p><p>{intro}</p>{tables}</html>"
    )


def _row(path: str, verb: str, operation: dict[str, Any]) -> str:
    names = [f"{p['name']} ({p['in']})" for p in operation.get("parameters", []) if p["in"] != "path"]
    note = f"<div class=note>{escape(', '.join(names))}</div>" if names else ""
    description = f"<div class=note>{escape(operation['description'])}</div>" if "description" in operation else ""
    return (
        f"<tr><td class=verb>{escape(verb.upper())}</td><td><code>{escape(path)}</code>{note}</td>"
        f"<td>{escape(str(operation.get('summary', '')))}{description}</td></tr>"
    )
