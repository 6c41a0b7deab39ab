"""Checks rendered manifests against the schemas of Kubernetes versions, and what those schemas cannot say.

    validate.py 1.25 1.33 -- FILE…     every document of every file; an unknown kind is an error
    validate.py --foreign FILE…        prints the objects whose kinds are not Kubernetes' own, as JSON
    validate.py --config FILE FOLDER   writes the gateway's configuration and contracts that the file holds

In: YAML files. Out: nothing, or what is wrong and exit status 1. Never: the network.
"""

import json
import pathlib
import sys

import kubernetes_validate
import yaml

# Kinds that others bring; crds.mjs knows them.
FOREIGN = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/")


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def is_foreign(document):
    return document["apiVersion"].startswith(FOREIGN)


def schema_errors(document, versions):
    for version in () if is_foreign(document) else versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{version}: {error}"


def restricted(who, pod, container):
    """A pod within the restricted profile of Kubernetes, and one step further: a file system that cannot be written."""
    rights = container["securityContext"]
    return [
        (f"{who} may be root", pod["securityContext"]["runAsNonRoot"] is True),
        (f"{who} has no seccomp profile", pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"),
        (f"{who} may gain privileges", rights["allowPrivilegeEscalation"] is False),
        (f"{who} may write to its root file system", rights["readOnlyRootFilesystem"] is True),
        (f"{who} has capabilities left", rights["capabilities"] == {"drop": ["ALL"]}),
        (f"{who} has a token of the API mounted", pod["automountServiceAccountToken"] is False),
    ]


def own_services(by_kind):
    """Services of the gateway's pods: neither Redis', nor that by which load workers find each other."""
    return [service for service in by_kind["Service"] if "app.kubernetes.io/instance" in service["spec"]["selector"]]


def selected(by_kind, deployment):
    """Every selector that must find the gateway's pods."""
    yield deployment["spec"]["selector"]["matchLabels"]
    yield from (service["spec"]["selector"] for service in own_services(by_kind))
    yield from (budget["spec"]["selector"]["matchLabels"] for budget in by_kind.get("PodDisruptionBudget", []))
    yield from (policy["spec"]["podSelector"]["matchLabels"] for policy in by_kind.get("NetworkPolicy", []))
    yield from (monitor["spec"]["selector"]["matchLabels"] for monitor in by_kind.get("PodMonitor", []))
    for constraint in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
        yield constraint["labelSelector"]["matchLabels"]


def own_errors(found):
    """What belongs together must agree, and the pods must stay within the restricted profile."""
    by_kind = {}
    for document in found:
        by_kind.setdefault(document["kind"], []).append(document)
    [deployment] = [one for one in by_kind["Deployment"] if one["metadata"]["name"] != "redis"]
    pod = deployment["spec"]["template"]
    container = pod["spec"]["containers"][0]
    labels = pod["metadata"]["labels"].items()
    services = own_services(by_kind)
    ports = {port["name"] for port in container["ports"]}
    targets = {port["targetPort"] for service in services for port in service["spec"]["ports"]}
    named = {"default"} | {account["metadata"]["name"] for account in by_kind.get("ServiceAccount", [])}
    maps = {config["metadata"]["name"] for config in by_kind["ConfigMap"]}
    mounted = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if volume["name"] in ("config", "contracts")]
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    internal = next(service["metadata"]["labels"] for service in services if service["metadata"]["name"].endswith("-internal"))
    watched = [monitor["spec"]["selector"]["matchLabels"] for monitor in by_kind.get("ServiceMonitor", [])]
    scalers = by_kind.get("HorizontalPodAutoscaler", []) + by_kind.get("ScaledObject", [])
    checks = [
        ("a selector does not select the pods", all(selector.items() <= labels for selector in selected(by_kind, deployment))),
        ("a service's port is not the container's", targets <= ports),
        ("a monitor does not find the internal service", all(selector.items() <= internal.items() for selector in watched)),
        ("the service account is not there", pod["spec"]["serviceAccountName"] in named),
        ("the configuration is not there", set(mounted) <= maps),
        ("a probe is not on the internal port", all(probe["port"] == "internal" for probe in probes)),
        ("the grace is too short", pod["spec"]["terminationGracePeriodSeconds"] >= 35),
        ("a secret is rendered", "Secret" not in by_kind and "stringData" not in yaml.safe_dump(found)),
        ("not exactly one thing sets the number of pods", ("replicas" in deployment["spec"]) + len(scalers) == 1),
        *restricted("the gateway", pod["spec"], container),
    ]
    for test in by_kind.get("Pod", []):
        checks += restricted(test["metadata"]["name"], test["spec"], test["spec"]["containers"][0])
    for job in by_kind.get("Job", []):
        spec = job["spec"]["template"]["spec"]
        checks += restricted(job["metadata"]["name"], spec, spec["containers"][0])
    return [message for message, holds in checks if not holds]


def write_config(path, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    maps = [document for document in documents(path) if document["kind"] == "ConfigMap"]
    for config in maps:
        for name, text in config["data"].items():
            if name == "gateway.toml":
                (folder / name).write_text(text, encoding="utf-8")
            elif config["metadata"]["name"].endswith("-contracts"):
                (folder / "contracts").mkdir(exist_ok=True)
                (folder / "contracts" / name).write_text(text, encoding="utf-8")


def main(arguments):
    if arguments[0] == "--config":
        write_config(*arguments[1:])
        return 0
    if arguments[0] == "--foreign":
        foreign = [document for path in arguments[1:] for document in documents(path) if is_foreign(document)]
        print(json.dumps(foreign))
        return 0 if foreign else 1
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
