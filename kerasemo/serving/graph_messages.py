"""Shorten what TensorFlow reports about an input of a graph."""

import re

_NOISE = ("Graph execution error", "Detected at node", "<stack")
"""How lines begin that describe the graph and not the input."""


def clean_graph_message(text: str) -> str:
    r"""Return what a graph reports as one line, without the names of its nodes.

    Args:
        text: The message of a TensorFlow error, or of a server that runs the graph.

    >>> clean_graph_message("{{function_node f}} assertion failed: [expected 3] [bytes]")
    'expected 3 bytes'
    >>> clean_graph_message("Detected at node 'x'\nIncompatible shapes [[{{node y}}]] [Op:Add]")
    'Incompatible shapes'
    """
    text = re.split(r"\s*\[\[\{\{|\n\t|\s*\[Op:", text)[0]
    text = re.sub(r"\{\{\w+ [^}]*\}\} ?", "", text)
    assertion = re.search(r"assertion failed: \[(.*)\]", text, re.DOTALL)
    if assertion:
        text = assertion[1].replace("] [", " ")
    else:
        text = "\n".join(line for line in text.splitlines() if not line.startswith(_NOISE))
    return " ".join(text.split())


def graph_message(error: Exception) -> str:
    """Return what a graph, or TensorFlow, reports about an input, as one line.

    >>> graph_message(ValueError("assertion failed: [at most] [9] [samples]"))
    'at most 9 samples'
    """
    text = getattr(error, "message", None) or str(error)
    return clean_graph_message(text) or type(error).__name__
