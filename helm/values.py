"""The table of the chart's values in README.md, and whether values.yaml, its schema and the tested files agree.

    values.py README.md            prints the README with the table between its two marks made anew
    values.py --check FILE…        every value is explained, is in the schema, and is set by one of the files

In: gateway/values.yaml and gateway/values.schema.json. Out: text, or what is wrong and exit status 1. Never: the network.
"""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parent / "gateway"
BEGIN, END = "<!-- values -->", "<!-- end of values -->"


def leaves(schema, path=()):
    """Paths of what is set as one: where the schema lists no keys of its own."""
    for key, below in schema["properties"].items():
        if "properties" in below:
            yield from leaves(below, (*path, key))
        else:
            yield (*path, key)


def comments(text):
    """The comment right above each key of the file, by the key's path."""
    found, above, stack = {}, [], []
    for line in text.splitlines():
        comment = re.match(r"\s*# ?(.*)", line)
        key = re.match(r"( *)([A-Za-z][A-Za-z0-9]*):", line)
        if comment:
            above.append(comment[1])
            continue
        if key:
            depth = len(key[1])
            stack = [entry for entry in stack if entry[0] < depth] + [(depth, key[2])]
            found.setdefault(tuple(name for _, name in stack), " ".join(above))
        above = []
    return found


def at(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return None, False
        values = values[key]
    return values, True


def shown(value):
    if isinstance(value, str) and "\n" in value:
        return "see values.yaml"
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 60 else "see values.yaml"


def table(schema, values, explained):
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path in leaves(schema):
        value, _ = at(values, path)
        meaning = explained.get(path, "").replace("|", "\\|")
        rows.append(f"| `{'.'.join(path)}` | {shown(value)} | {meaning} |")
    return "\n".join(rows)


def check(schema, values, explained, files):
    texts = [yaml.safe_load(pathlib.Path(file).read_text(encoding="utf-8")) or {} for file in files]
    for path in leaves(schema):
        name = ".".join(path)
        default, there = at(values, path)
        if not there:
            yield f"{name} is in the schema and not in values.yaml"
        if not explained.get(path):
            yield f"{name} is not explained in values.yaml"
        tried = [value for value, is_set in (at(text, path) for text in texts) if is_set]
        if all(value == default for value in tried):
            yield f"{name} differs from its default in none of the tested files"


def main(arguments):
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values, explained = yaml.safe_load(text), comments(text)
    if arguments[0] == "--check":
        errors = list(check(schema, values, explained, arguments[1:]))
        print("\n".join(errors), end="\n" if errors else "")
        return 1 if errors else 0
    readme = pathlib.Path(arguments[0]).read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    print(f"{before}{BEGIN}\n{table(schema, values, explained)}\n{END}{after}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
