/**
 * kill -9 of the backend at steps of a container's life on Kubernetes. With SOCKERLESS_SOAK=1 (`npm run soak -- kubernetes`) it
 * is killed at the steps that a life records, of those that nothing tells apart at the first; with SOCKERLESS_EVERY_STEP=1,
 * too, at every one; else at a sample.
 */
import { suite, test } from "node:test";

import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { beforeAndAfter, KillSweep } from "../support/kill-sweep.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, sharedCluster } from "../support/kubernetes-daemon.ts";
import { LifeThroughKills, type Scene } from "../support/life-through-kills.ts";
import { untilTrue } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const sample = ["kubernetes.create pods.after", "kubernetes.delete pods.after", "workloads.launch.after"];
/** Steps that a life has to come to at least; others that it comes to are swept too. */
const least = beforeAndAfter(
  ...["create pods", "delete pods", "patch pods"].map((call) => `kubernetes.${call}`),
  ...["create persistentvolumeclaims", "delete persistentvolumeclaims"].map((call) => `kubernetes.${call}`),
  ...["create networkpolicies", "update networkpolicies", "delete networkpolicies"].map(
    (call) => `kubernetes.${call}`,
  ),
  ...["networks.connect", "networks.disconnect", "networks.ensure", "networks.remove"],
  ...["volumes.create", "volumes.remove"],
  ...["workloads.create", "workloads.launch", "workloads.release", "workloads.remove"],
  "state.commit",
);

const scenes: readonly Scene[] = ["undisturbed", "begun again"];

/** Containers' lives in a namespace. */
function livesIn(kubernetes: KubernetesDaemon): LifeThroughKills {
  const { daemon } = kubernetes;
  return new LifeThroughKills({
    daemon,
    async running(id) {
      const selector = `--selector=sockerless/container=${id.slice(0, 12)}`;
      const under = "--field-selector=status.phase!=Succeeded,status.phase!=Failed";
      const listed = await kubernetes.kubectl("get", "pods", selector, under, "--output=name");
      return listed.split("\n").filter((line) => line !== "").length;
    },
    /** Nothing is left but the policy of the default network. */
    async settle() {
      const kinds = "pods,persistentvolumeclaims,networkpolicies";
      await untilTrue(async () => {
        const bridge = await callApi(daemon.socket, "GET", "/v1.51/networks/bridge").then(
          (answer) => answer.json() as { readonly Id: string },
          () => undefined,
        );
        const left = await kubernetes.kubectl("get", kinds, "--output=name");
        return left === `networkpolicy.networking.k8s.io/sockerless-${bridge?.Id.slice(0, 12)}`;
      });
    },
  });
}

suite("a backend of pods that is killed", { skip: withoutCluster }, () => {
  const { sweep, kubernetes, lives } = duringTests(async (resources) => {
    const asks = /^kubernetes\.(get|list|create selfsubject)/;
    const sweep = resources.use(await KillSweep.prepare({ least, asks }));
    const kubernetes = resources.use(
      await KubernetesDaemon.start(await sharedCluster(resources), {
        kubernetes: { linger: "5s", drain_timeout: "2s" },
        daemon: { env: sweep.env },
      }),
    );
    return { sweep, kubernetes, lives: livesIn(kubernetes) };
  });

  /** Everything that a life comes to. */
  const recordSweeps = async (): Promise<readonly { readonly step: string; readonly scene: Scene }[]> => {
    const records: string[][] = [];
    for (const scene of scenes) {
      records.push(await sweep.record(kubernetes.daemon, lives.undisturbed(scene)));
    }
    sweep.assertLeast(...records);
    const steps = sweep.stepsOf(records);
    return scenes.flatMap((scene, index) => (steps[index] ?? []).map((step) => ({ step, scene })));
  };

  test("loses, doubles and leaks nothing", async (t) => {
    const sweeps = isWhole
      ? await recordSweeps()
      : sample.map((step): { step: string; scene: Scene } => ({ step, scene: "undisturbed" }));
    for (const { step, scene } of sweeps) {
      await t.test(`at ${step}, ${scene}`, (context) =>
        sweep.kill(context, kubernetes.daemon, step, lives.of(scene)),
      );
    }
  });
});
