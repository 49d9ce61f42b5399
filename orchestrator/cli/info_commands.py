"""`selftrain methods`, `schema` and `doctor`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from orchestrator.cli.options import AsJson, StoreRoot
from orchestrator.config import Placement, RunConfig
from orchestrator.console import Console
from orchestrator.doctor import examine
from orchestrator.errors import InfeasibleError
from orchestrator.method import Method
from orchestrator.methods import load_method, method_names
from orchestrator.tracking.secrets import redact


def methods(
    name: Annotated[str | None, typer.Argument(help="Method to show whole.")] = None,
    markdown: Annotated[bool, typer.Option(help="List them as the README's table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the methods, or show one: source, departures, where it acts, what it searches."""
    if name is not None:
        method = load_method(name)
        if as_json:
            typer.echo(json.dumps(method.plain()))
            return
        typer.echo(f"{name}: {method.summary}\nSource: {method.source}")
        if method.departs:
            typer.echo(f"Departs from the paper: {method.departs}")
        typer.echo(f"Acts on: {method.acts}{f'; needs {method.needs}' if method.needs else ''}")
        typer.echo(f"Searchable: {', '.join(method.search) or 'nothing'}")
        typer.echo(yaml.safe_dump({"recipe": method.recipe.plain()}, sort_keys=False).rstrip())
        return
    found = {each: load_method(each) for each in method_names()}
    if as_json:
        shown = ("summary", "source", "acts", "needs", "search")
        typer.echo(json.dumps({n: {k: getattr(m, k) for k in shown} for n, m in found.items()}))
        return
    if markdown:
        typer.echo(methods_table(found))
        return
    width = max(map(len, found))
    for each, method in found.items():
        typer.echo(f"{each:<{width}}  {method.acts:<11}  {method.summary}  [{method.source}]")
        needs = f"needs {method.needs}; " if method.needs else ""
        typer.echo(f"{'':<{width}}  {'':<11}  {needs}searches {', '.join(method.search)}")


def methods_table(found: dict[str, Method]) -> str:
    """The methods as a Markdown table: what each does, needs and lets be searched, its source."""
    head = ("method", "what it does", "acts on", "needs", "searches", "source")
    rows = [head, ["---"] * len(head)]
    rows += [
        (
            f"`{name}`",
            method.summary.rstrip("."),
            method.acts,
            method.needs,
            ", ".join(method.search),
            method.source,
        )
        for name, method in found.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; stdout without it.")] = None,
) -> None:
    """Print the JSON schema of a config, for editors."""
    whole = _without_tags(RunConfig.model_json_schema())
    recipe = whole["$defs"]["Recipe"]
    whole["required"] = [n for n in whole["required"] if n not in ("recipe", "name")]
    recipe["description"] = "Fields given here override the method's recipe."
    text = json.dumps(whole, indent=1)
    if out is None:
        typer.echo(text)
        return
    out.write_text(text + "\n")
    typer.echo(f"wrote {out}; first line of a config: # yaml-language-server: $schema={out}")


def _without_tags(node: Any) -> Any:
    """The schema where a setting may leave out its kind, as a config may: the method gives it."""
    if isinstance(node, dict):
        kept = {key: _without_tags(part) for key, part in node.items() if key != "discriminator"}
        return {"anyOf" if key == "oneOf" else key: part for key, part in kept.items()}
    return [_without_tags(part) for part in node] if isinstance(node, list) else node


def doctor(
    store: StoreRoot = "store",
    ray: Annotated[bool, typer.Option(help="Start or join Ray and look at every node.")] = True,
    ray_address: Annotated[str | None, typer.Option(help="Cluster to join.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at versions, Ray, GPUs, the store, free disk and W&B, and say what is amiss."""
    findings = examine(store, Placement(ray_address=ray_address), with_ray=ray)
    if as_json:
        typer.echo(json.dumps(redact([f.plain() for f in findings])))
    else:
        console = Console()
        for each in findings:
            console.say(f"{'ok  ' if each.ok else 'BAD '} {each.name}: {each.found}")
    if bad := [f.name for f in findings if not f.ok]:
        raise InfeasibleError(f"amiss: {', '.join(bad)}")
