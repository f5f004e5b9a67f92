/**
 * kill -9 of the backend at steps of a container's life on Kubernetes. With SOCKERLESS_SOAK=1 (`npm run soak -- kubernetes`) it
 * is killed at the steps that a life records, of those that nothing tells apart at the first; with SOCKERLESS_EVERY_STEP=1,
 * too, at every one; else at a sample.
 */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import type { CommandResult } from "../support/command.ts";
import { type ApiResponse, callApi } from "../support/docker-api.ts";
import type { ContainerDetail } from "../support/engine-api.ts";
import { beforeAndAfter, KillSweep, type Life } from "../support/kill-sweep.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon } from "../support/kubernetes-daemon.ts";
import { isAlive, processOf } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const sample = ["kubernetes.create pods.after", "kubernetes.delete pods.after", "workloads.launch.after"];
/** Steps that a life has to come to at least; others that it comes to are swept too. */
const least = beforeAndAfter(
  ...["create pods", "delete pods", "patch pods"].map((call) => `kubernetes.${call}`),
  ...["create persistentvolumeclaims", "delete persistentvolumeclaims"].map((call) => `kubernetes.${call}`),
  ...["create networkpolicies", "delete networkpolicies"].map((call) => `kubernetes.${call}`),
  ...["networks.connect", "networks.disconnect", "networks.ensure", "networks.remove"],
  ...["volumes.create", "volumes.remove"],
  ...["workloads.create", "workloads.launch", "workloads.release", "workloads.remove"],
  "state.commit",
);

/** How lives go. */
const scenes = [
  /** Its steps count from the first command on. */
  "undisturbed",
  /** The backend is killed between two commands already: what the next one does as it begins are its first steps. */
  "begun again",
] as const;
type Scene = (typeof scenes)[number];

/** Containers' lives, one after the other, in a namespace that has nothing of them before and afterwards. */
class Lives {
  readonly #kubernetes: KubernetesDaemon;

  constructor(kubernetes: KubernetesDaemon) {
    this.#kubernetes = kubernetes;
  }

  /** A life and its end. */
  of(scene: Scene): Life {
    return {
      live: async (begin) => {
        await this.#live(scene, begin);
      },
      settle: () => this.#settle(),
    };
  }

  /** One of which nothing is killed, and all has to succeed. */
  undisturbed(scene: Scene): Life {
    return {
      live: async (begin) => {
        const { ran, told } = await this.#live(scene, begin);
        assert.equal(ran, scene === "begun again" ? 1 : 2, told);
      },
      settle: () => this.#settle(),
    };
  }

  /**
   * A container's life, and that of another that ends by itself and is started again, up to where nothing of them and of
   * what they use is left. The state has to agree with the cluster afterwards, whatever becomes of each command.
   *
   * @returns how often the other has run, and what commands that failed have said
   */
  async #live(
    scene: Scene,
    begin: () => Promise<void>,
  ): Promise<{ readonly ran: number; readonly told: string }> {
    const { daemon } = this.#kubernetes;
    const failures: string[] = [];
    const docker = async (...args: string[]): Promise<CommandResult> => {
      const result = await daemon.docker(...args);
      if (result.code !== 0) {
        failures.push(`docker ${args.join(" ")}: ${result.code}, ${result.errorText}`);
      }
      await this.#listed("/containers/json"); // It serves again.
      return result;
    };
    if (scene === "undisturbed") {
      await begin();
    }
    await docker("network", "create", "lane");
    await docker("network", "create", "side");
    const own = ["--volume=kept:/kept", "--network=lane"];
    const runs = [await docker("run", "--name=once", ...own, "busybox", "echo", "ran")];
    const lasting = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    await docker("run", "--detach", "--name=life", ...own, "busybox", ...lasting);
    await docker("network", "connect", "side", "life");
    await docker("network", "disconnect", "side", "life");
    if (scene === "begun again") {
      const backend = await processOf(daemon, "backend");
      await begin();
      if (isAlive(backend)) {
        process.kill(backend, "SIGKILL"); // It may have come to the step by itself.
      }
      await processOf(daemon, "backend", backend);
    } else {
      await docker("stop", "--timeout=2", "life");
      await docker("start", "life"); // In its pod, which lingers.
      const once = (await this.#find("once"))?.Id;
      await untilTrue(async () => once === undefined || (await this.#running(once)) === 0);
      runs.push(await docker("start", "--attach", "once")); // In another pod.
    }
    // A start that was under way is taken up, or taken back: at rest it runs, or has ended.
    for (const name of ["life", "once"]) {
      await untilTrue(async () => {
        const found = await this.#find(name);
        return found === undefined || ["running", "exited", "created"].includes(found.State.Status);
      });
    }
    for (const { Id } of await this.#listed<{ readonly Id: string }>("/containers/json?all=1")) {
      await untilTrue(async () => (await this.#running(Id)) <= 1);
    }
    const seen = runs.filter(({ code, text }) => code === 0 && text === "ran").length;
    const ran = await until(async () => {
      const { code, text, errorText } = await daemon.docker("logs", "once");
      const count = text.split("\n").filter((line) => line === "ran").length;
      const isTold = code === 0 || /No such container/.test(errorText); // Its creation may be what was cut off.
      return isTold && count >= seen ? count : undefined;
    });
    assert.ok(ran <= 2, `${ran} runs: each start happens once`);
    await this.#untilNone(["rm", "--force", "--volumes", "life", "once"], "/containers/json?all=1");
    const custom = encodeURIComponent(JSON.stringify({ type: ["custom"] }));
    await this.#untilNone(["network", "rm", "lane", "side"], `/networks?filters=${custom}`);
    await untilTrue(async () => {
      await daemon.docker("volume", "rm", "kept");
      const answer = await this.#get("/volumes");
      return answer?.status === 200 && (answer.json() as { Volumes: unknown[] }).Volumes.length === 0;
    });
    return { ran, told: failures.join("\n") };
  }

  /** Nothing is left but the policy of the default network. */
  async #settle(): Promise<void> {
    const kinds = "pods,persistentvolumeclaims,networkpolicies";
    await untilTrue(async () => {
      const bridge = (await this.#get("/networks/bridge"))?.json() as { readonly Id: string } | undefined;
      const left = await this.#kubernetes.kubectl("get", kinds, "--output=name");
      return left === `networkpolicy.networking.k8s.io/sockerless-${bridge?.Id.slice(0, 12)}`;
    });
  }

  /** Pods of a container that run, or may come to. */
  async #running(id: string): Promise<number> {
    const selector = `--selector=sockerless/container=${id.slice(0, 12)}`;
    const under = "--field-selector=status.phase!=Succeeded,status.phase!=Failed";
    const listed = await this.#kubernetes.kubectl("get", "pods", selector, under, "--output=name");
    return listed.split("\n").filter((line) => line !== "").length;
  }

  /** An answer of the API; undefined: nobody serves. */
  async #get(path: string): Promise<ApiResponse | undefined> {
    return await callApi(this.#kubernetes.daemon.socket, "GET", `/v1.51${path}`).catch(() => undefined);
  }

  /** A list, once somebody serves. */
  #listed<T>(path: string): Promise<readonly T[]> {
    return until(async () => {
      const answer = await this.#get(path);
      return answer?.status === 200 ? (answer.json() as T[]) : undefined;
    });
  }

  /** A container, once somebody serves; undefined: there is none of this name. */
  async #find(name: string): Promise<ContainerDetail | undefined> {
    const found = await until(async () => {
      const answer = await this.#get(`/containers/${name}/json`);
      return answer !== undefined && [200, 404].includes(answer.status) ? answer : undefined;
    });
    return found.status === 200 ? (found.json() as ContainerDetail) : undefined;
  }

  /** Removes until nothing is listed any more: the step may be one of these. */
  #untilNone(remove: readonly string[], list: string): Promise<void> {
    return untilTrue(async () => {
      await this.#kubernetes.daemon.docker(...remove);
      return (await this.#listed(list)).length === 0;
    });
  }
}

suite("a backend of pods that is killed", { skip: withoutCluster }, () => {
  let cluster: Cluster;
  let sweep: KillSweep;
  let kubernetes: KubernetesDaemon;
  let lives: Lives;

  before(async () => {
    sweep = await KillSweep.prepare({ least, asks: /^kubernetes\.(get|list|create selfsubject)/ });
    cluster = await Cluster.start();
    kubernetes = await KubernetesDaemon.start(cluster, {
      kubernetes: { linger: "5s", drain_timeout: "2s" },
      daemon: { env: sweep.env },
    });
    lives = new Lives(kubernetes);
  });
  after(async () => {
    await kubernetes?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    await sweep?.[Symbol.asyncDispose]();
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
