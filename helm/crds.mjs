// Checks the objects of rendered manifests whose kinds are not Kubernetes' own: monitors, rules, scalers, routes.
//
//   node crds.mjs MODULES < DOCUMENTS      MODULES: the folder of node_modules; DOCUMENTS: a JSON list of objects
//
// In: objects. Out: nothing, or what is wrong and exit status 1. Never: the network, nor a kind that it does not know.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const MODELS = {
  'monitoring.coreos.com/v1': 'prometheus-operator/monitoring.coreos.com/v1',
  'keda.sh/v1alpha1': 'keda/keda.sh/v1alpha1',
  'gateway.networking.k8s.io/v1': 'gateway-api/gateway.networking.k8s.io/v1',
};

const modules = pathToFileURL(`${process.argv[2]}/`);
let failed = false;
for (const object of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    const folder = MODELS[object.apiVersion];
    if (!folder) throw new Error(`nothing is known of ${object.apiVersion}`);
    const model = await import(new URL(`@kubernetes-models/${folder}/${object.kind}.js`, modules));
    new model[object.kind](object).validate();
  } catch (error) {
    failed = true;
    console.error(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
process.exit(failed ? 1 : 0);
