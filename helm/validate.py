"""Checks rendered manifests against the schemas of Kubernetes versions, and what those schemas cannot say.

    validate.py 1.25 1.33 -- FILE…     every document of every file; an unknown kind is an error
    validate.py --config FILE          prints the gateway's configuration that the file holds

In: YAML files. Out: nothing, or what is wrong and exit status 1. Never: the network.
"""

import sys

import kubernetes_validate
import yaml


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def schema_errors(document, versions):
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{version}: {error}"


def own_errors(found):
    """What belongs together must agree, and the pods must stay within the restricted profile."""
    by_kind = {}
    for document in found:
        by_kind.setdefault(document["kind"], []).append(document)
    [deployment] = by_kind["Deployment"]
    pod = deployment["spec"]["template"]
    [container] = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"].items()
    selectors = [service["spec"]["selector"] for service in by_kind["Service"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in by_kind.get("PodDisruptionBudget", [])]
    selectors.append(deployment["spec"]["selector"]["matchLabels"])
    ports = {port["name"] for port in container["ports"]}
    targets = {port["targetPort"] for service in by_kind["Service"] for port in service["spec"]["ports"]}
    named = {"default"} | {account["metadata"]["name"] for account in by_kind.get("ServiceAccount", [])}
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    text = yaml.safe_dump(found)
    checks = [
        ("a selector does not select the pods", all(selector.items() <= labels for selector in selectors)),
        ("a service's port is not the container's", targets <= ports),
        ("the service account is not there", pod["spec"]["serviceAccountName"] in named),
        ("the configuration is not there", pod["spec"]["volumes"][0]["configMap"]["name"] == by_kind["ConfigMap"][0]["metadata"]["name"]),
        ("a probe is not on the internal port", all(probe["port"] == "internal" for probe in probes)),
        ("the pod may be root", pod["spec"]["securityContext"]["runAsNonRoot"] is True),
        ("no seccomp profile", pod["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"),
        ("privileges may be gained", container["securityContext"]["allowPrivilegeEscalation"] is False),
        ("the root file system is writable", container["securityContext"]["readOnlyRootFilesystem"] is True),
        ("capabilities are left", container["securityContext"]["capabilities"] == {"drop": ["ALL"]}),
        ("a token is mounted", pod["spec"]["automountServiceAccountToken"] is False),
        ("the grace is too short", pod["spec"]["terminationGracePeriodSeconds"] >= 35),
        ("a secret is rendered", "Secret" not in by_kind and "stringData" not in text),
    ]
    return [message for message, holds in checks if not holds]


def main(arguments):
    if arguments[0] == "--config":
        [config] = [document for document in documents(arguments[1]) if document["kind"] == "ConfigMap"]
        print(config["data"]["gateway.toml"])
        return 0
    split = arguments.index("--")
    versions, paths = arguments[:split], arguments[split + 1 :]
    failed = False
    for path in paths:
        found = documents(path)
        errors = [f"{document['kind']}: {error}" for document in found for error in schema_errors(document, versions)]
        # What is misspelt is missing too, so the second look waits until the first finds nothing.
        for error in errors or own_errors(found):
            failed = True
            print(f"{path}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
