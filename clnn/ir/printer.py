"""The text form of a graph, stable enough to compare in tests."""

from __future__ import annotations

from .graph import Graph, Value


def format_graph(graph: Graph) -> str:
    """One line per value and node; temporaries are numbered in order of appearance."""
    names: dict[Value, str] = {}

    def name(value: Value) -> str:
        if value not in names:
            if value.kind == "temporary":
                names[value] = f"%{sum(v.kind == 'temporary' for v in names)}"
            elif value.kind == "constant":
                source = value.source
                names[value] = f"{source.item():g}" if source.size == 1 else f"const{tuple(source.shape)}"
            else:
                names[value] = f"@{value.name}"
        return names[value]

    lines = [f"input {name(value)}: {value.spec}" for value in graph.inputs]
    used = {value for node in graph.nodes for value in node.inputs} | set(graph.updates)
    lines += [f"variable {name(value)}: {value.spec}" for value in graph.variables if value in used]
    for node in graph.nodes:
        left = ", ".join(f"{name(value)}: {value.spec}" for value in node.outputs)
        arguments = ", ".join(name(value) for value in node.inputs)
        notes = [note for note in (node.path, f"by {node.lowering}" if node.lowering else "") if note]
        lines.append(f"{left} = {node.op} <- {arguments}" + (f"    # {', '.join(notes)}" if notes else ""))
    lines += [f"update {name(old)} <- {name(new)}" for old, new in graph.updates.items()]
    lines.append(f"return {', '.join(name(value) for value in graph.outputs)}")
    return "\n".join(lines)
