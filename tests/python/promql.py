"""Parses PromQL expressions with promql-parser and says what each asks for.

Reads a JSON list of expressions from standard input and prints a JSON list with one object each: `error`, or `selectors`
(each with its metric and the labels it selects by) and `labels`, those that results are grouped and matched by.
"""

import json
import sys

import promql_parser as promql


def names(modifier):
    """The labels of `by`, `without`, `on` or `ignoring`."""
    return list(modifier.labels) if modifier is not None else []


def walk(node, found):
    """Collects what an expression and everything in it asks for."""
    if isinstance(node, promql.VectorSelector):
        matchers = list(node.matchers.matchers) + [one for row in node.matchers.or_matchers for one in row]
        labels = [matcher.name for matcher in matchers if matcher.name != "__name__"]
        found["selectors"].append({"metric": node.name or "", "labels": labels})
    elif isinstance(node, promql.MatrixSelector):
        walk(node.vector_selector, found)
    elif isinstance(node, promql.AggregateExpr):
        found["labels"] += names(node.modifier)
        walk(node.expr, found)
        if node.param is not None:
            walk(node.param, found)
    elif isinstance(node, promql.BinaryExpr):
        if node.modifier is not None:
            found["labels"] += names(node.modifier.matching) + list(node.modifier.group_labels or [])
        walk(node.lhs, found)
        walk(node.rhs, found)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            walk(argument, found)
    elif isinstance(node, (promql.ParenExpr, promql.UnaryExpr, promql.SubqueryExpr)):
        walk(node.expr, found)


def asked(expression):
    """What one expression asks for, or why it can't be parsed."""
    found = {"selectors": [], "labels": []}
    try:
        walk(promql.parse(expression), found)
    except ValueError as error:
        return {"error": str(error)}
    return found


if __name__ == "__main__":
    print(json.dumps([asked(expression) for expression in json.load(sys.stdin)]))
