/**
 * `npm run demo:kubernetes`: the Kubernetes backend on a cluster of one node, for anyone without one, or with `--kubeconfig FILE`
 * on one that is there. Other arguments go to `sockerless serve`; what it runs ends with it.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";

import { demonstrate } from "../support/demo.ts";
import { Cluster } from "../support/kubernetes-cluster.ts";
import { KubernetesAccount } from "../support/kubernetes-daemon.ts";

const registryVariable = "SOCKERLESS_KUBERNETES_REGISTRY";
const given = process.argv.slice(2);
const at = given.indexOf("--kubeconfig");
const kubeconfig = at < 0 ? undefined : given[at + 1];
const others = at < 0 ? given : given.toSpliced(at, 2);

await using resources = new AsyncDisposableStack();
const directory = await mkdtemp(join(tmpdir(), "skl-demo-"));
resources.defer(() => rm(directory, { recursive: true, force: true }));
const serve = ["serve", "--backend", "kubernetes", "--state-dir", join(directory, "state"), ...others];
process.exitCode = await (kubeconfig === undefined ? onOwn() : onGiven(kubeconfig));

async function onOwn(): Promise<number> {
  console.log("a Kubernetes of one node begins, in some ten seconds");
  const cluster = resources.use(await Cluster.start());
  const account = resources.use(await KubernetesAccount.open(cluster));
  console.log(`an image to begin with: ${cluster.registry.host}/busybox:latest`);
  return await demonstrate("Kubernetes", {}, [[...serve, ...account.args]]);
}

/** In a namespace of its own of the cluster of a kubeconfig, which goes with all that is in it. */
async function onGiven(path: string): Promise<number> {
  if ((process.env[registryVariable] ?? "") === "") {
    console.error(
      `set ${registryVariable} to a repository that this machine pushes to and the nodes pull from: registry.example.com/sockerless`,
    );
    return 1;
  }
  const kubernetes = new KubeConfig();
  kubernetes.loadFromFile(path);
  const core = kubernetes.makeApiClient(CoreV1Api);
  const name = `sockerless-demo-${randomBytes(4).toString("hex")}`;
  await core.createNamespace({ body: { metadata: { name } } });
  console.log(`containers are pods of the namespace ${name}, which is deleted at the end`);
  resources.defer(async () => {
    await core.deleteNamespace({ name });
  });
  const env = {
    SOCKERLESS_KUBERNETES_KUBECONFIG: path,
    SOCKERLESS_KUBERNETES_NAMESPACE: name,
    SOCKERLESS_KUBERNETES_AGENT_CA: join(directory, "agent-ca.pem"),
  };
  return await demonstrate("Kubernetes", env, [["kubernetes", "push-agent"], serve]);
}
