"""Pages from Jinja templates; HTML is escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def render(template: str, package: str = "cspbench.report", **values: Any) -> str:
    """Fill a template of a package's folder ``templates``.

    Args:
        template: file name; in ``….html.j2`` every value is escaped, in other files none is.
        package: dotted name of the package.
        values: what the template names; a name that is not given raises jinja2.UndefinedError.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
