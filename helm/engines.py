"""Whether Helm 4 makes of the chart what Helm 3 makes of it, and whether it finds fault with it.

    engines.py CHART VALUES RENDERED      VALUES: a file, or - for none; RENDERED: what Helm 3 printed

In: the chart, and Helm 3's output for a Kubernetes of 1.30 or later. Out: nothing, or what differs and exit status 1.
Never: the network, or a cluster.
"""

import pathlib
import sys

import helm_python
import yaml


def by_name(texts):
    documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}


def main(chart, values_file, rendered):
    values = {} if values_file == "-" else yaml.safe_load(pathlib.Path(values_file).read_text(encoding="utf-8"))
    report = helm_python.chart.lint(chart, values, strict=True)
    errors = [message["error"] for message in report["messages"] if message["severity"] > 1]
    templates = helm_python.Chart.load(chart).render(values, name="gateway", namespace="default")
    three = by_name([pathlib.Path(rendered).read_text(encoding="utf-8")])
    four = by_name(text for path, text in templates.items() if path.endswith(".yaml"))
    errors += [f"{name} differs between Helm 3 and Helm 4" for name in sorted(three.keys() | four.keys()) if three.get(name) != four.get(name)]
    print("\n".join(errors), end="\n" if errors else "", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
