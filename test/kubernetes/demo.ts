/**
 * `npm run demo:kubernetes`: the Kubernetes backend on a cluster of one node, for anyone without one. Arguments go to
 * `sockerless serve`; the cluster and what it runs end with it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { demonstrate } from "../support/demo.ts";
import { Cluster } from "../support/kubernetes-cluster.ts";
import { KubernetesAccount } from "../support/kubernetes-daemon.ts";

await using resources = new AsyncDisposableStack();
const directory = await mkdtemp(join(tmpdir(), "skl-demo-"));
resources.defer(() => rm(directory, { recursive: true, force: true }));
console.log("a Kubernetes of one node begins, in some ten seconds");
const cluster = resources.use(await Cluster.start());
const account = resources.use(await KubernetesAccount.open(cluster));
console.log(`an image to begin with: ${cluster.registry.host}/busybox:latest`);
process.exitCode = await demonstrate("Kubernetes", {}, [
  [
    ...["serve", "--backend", "kubernetes", "--state-dir", join(directory, "state")],
    ...[...process.argv.slice(2), ...account.args],
  ],
]);
