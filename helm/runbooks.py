"""Whether every alert has a test and an entry in the runbook, and the runbook no entry for an alert that is gone.

    runbooks.py ALERTS TESTS RUNBOOK

In: Prometheus rules, promtool tests, Markdown. Out: nothing, or what is wrong and exit status 1. Never: the network.
"""

import pathlib
import re
import sys

import yaml


def main(alerts_file, tests_file, runbook_file):
    alerts = yaml.safe_load(pathlib.Path(alerts_file).read_text(encoding="utf-8"))
    tests = yaml.safe_load(pathlib.Path(tests_file).read_text(encoding="utf-8"))
    names = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    rests = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    entries = re.findall(r"^## (Gateway\w+)$", pathlib.Path(runbook_file).read_text(encoding="utf-8"), re.MULTILINE)
    errors = [f"{name} has no test in which it fires" for name in names if name not in fires]
    errors += [f"{name} has no test in which it does not fire" for name in names if name not in rests]
    errors += [f"{name} has no entry in the runbook" for name in names if name not in entries]
    errors += [f"the runbook has an entry for {name}, which is no alert" for name in entries if name not in names]
    print("\n".join(errors), end="\n" if errors else "", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
