/** Clouds whose backends prepare tasks, as the suites of this folder see them. */
import { join } from "node:path";

import type { AcaDaemonOptions } from "../support/aca-daemon.ts";
import { AcaDaemon } from "../support/aca-daemon.ts";
import type { Daemon } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, sharedCluster } from "../support/kubernetes-daemon.ts";
import { untilTrue } from "../support/until.ts";

/** A task that runs, or is to. */
export interface SeenTask {
  /** As the backend names it. */
  readonly task: string;
  readonly isPrepared: boolean;
  /** The name under which its agent waits, or its container's ID. */
  readonly name: string;
  /** All that the cloud was told of it. */
  readonly told: string;
}

/** A cloud, and a daemon that has busybox. */
export interface PoolCloud extends AsyncDisposable {
  readonly daemon: Daemon;
  /** The daemon's configuration, JSON. */
  readonly configFile: string;
  running(): Promise<readonly SeenTask[]>;
  /** All that the cloud was ever sent, as far as it tells. */
  sent(): Promise<string>;
  /** Containers that have claimed each task, by the beginning of its name: what the cloud was sent. */
  claimants(): Promise<ReadonlyMap<string, ReadonlySet<string>>>;
  /** Refuses the next claim; absent: nothing does that. */
  readonly refuseClaim?: () => void;
  /** Gives busybox to a daemon that has lost its state. */
  bringImage(): Promise<void>;
}

/** Tells of tasks whether the daemon's log has told that their agents answer. */
export function answersIn({ daemon }: PoolCloud): (task: SeenTask) => boolean {
  const told = daemon.output.split("\n").filter((line) => line.includes("a task waits for a container"));
  return ({ task }) => told.some((line) => line.includes(task));
}

/** Tells of tasks whether a container has claimed them; they may run on. */
export async function claimedIn(cloud: PoolCloud): Promise<(task: SeenTask) => boolean> {
  const claims = [...(await cloud.claimants()).keys()];
  return ({ task }) => claims.some((claimed) => task.startsWith(claimed));
}

/** Waits until so many tasks can be claimed, and no other runs. */
export async function untilWaiting(cloud: PoolCloud, count: number): Promise<void> {
  await untilTrue(async () => {
    const now = await cloud.running();
    const answers = answersIn(cloud);
    const isClaimed = await claimedIn(cloud);
    return now.length === count && now.every((task) => task.isPrepared && answers(task) && !isClaimed(task));
  });
}

/** Settings of a {@link PoolCloud}. */
export interface PoolCloudOptions {
  /** Time that the cloud takes for a task, beyond what it really takes. */
  readonly cloudMs?: number;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** A kind of cloud. */
export interface PoolCloudKind {
  /** Why there is none here; false: there is one. */
  readonly without: string | false;
  open(options?: PoolCloudOptions): Promise<PoolCloud>;
  /** An option that no prepared task has, and how `sockerless why` calls it. */
  readonly otherOption: readonly [option: string, name: string];
  /** Whether a network is a part of the tasks of its containers. */
  readonly isMadeWithNetworks: boolean;
  /** Steps of the calls by which a task is claimed, and another is prepared, as fault points name them. */
  readonly claimCall: string;
  readonly runCalls: readonly string[];
}

const preparedVariable = "SOCKERLESS_PREPARED";
const containerVariable = "SOCKERLESS_CONTAINER_ID";

/** A simulated AWS that enforces the documented policies. */
export const poolOnEcs: PoolCloudKind = {
  without: false,
  otherOption: ["--sysctl=net.core.somaxconn=1000", "--sysctl"],
  isMadeWithNetworks: true,
  claimCall: "aws.TagResource",
  runCalls: ["aws.RunTask"],
  async open({ cloudMs = 0, ...daemon } = {}) {
    const ecs = await EcsDaemon.start({
      aws: { delays: { provisioning: cloudMs } },
      ecs: { linger: "1s" },
      leastPrivilege: true,
      daemon,
    });
    return {
      daemon: ecs.daemon,
      configFile: join(ecs.directory, "config.yaml"),
      async running() {
        const tasks = ecs.aws.ecs.tasks.filter(({ state }) => state.desiredStatus === "RUNNING");
        return tasks.map(({ state }) => {
          const variables = (state.overrides.containerOverrides ?? []).flatMap(
            ({ environment = [] }) => environment,
          );
          return seenTask(state.taskArn, state, variables);
        });
      },
      sent: async () => JSON.stringify(ecs.aws.calls.all().map(({ input }) => input)),
      claimants: async () =>
        claimantsOf(
          ecs.aws.calls.all("ecs.TagResource").map(({ input }) => {
            const { resourceArn, tags } = input as {
              readonly resourceArn: string;
              readonly tags: readonly { readonly key: string; readonly value: string }[];
            };
            return [resourceArn, tags.find(({ key }) => key === containerVariable)?.value ?? ""];
          }),
        ),
      refuseClaim: () =>
        void ecs.aws.faults.add({
          on: "ecs.TagResource",
          error: { code: "InvalidParameterException", message: "no" },
        }),
      bringImage: async () => void (await ecs.daemon.ok("load", "--input", await busyboxArchiveFile())),
      [Symbol.asyncDispose]: () => ecs[Symbol.asyncDispose](),
    };
  },
};

/** A simulated Azure. */
export const poolOnAca: PoolCloudKind = {
  without: false,
  otherOption: ["--tmpfs=/scratch", "volumes, tmpfs or mounts of images"],
  isMadeWithNetworks: false,
  claimCall: "azure.Jobs_Update",
  runCalls: ["azure.Jobs_CreateOrUpdate", "azure.Jobs_Start"],
  async open({ cloudMs = 0, ...daemon } = {}) {
    const options: AcaDaemonOptions = {
      azure: { delays: { scheduling: cloudMs } },
      aca: { linger: "1s" },
      daemon,
    };
    const { azure, account, ...aca } = await openAca(options);
    return {
      daemon: aca.daemon,
      configFile: join(account.directory, "config.yaml"),
      async running() {
        const executions = azure.app.executions.filter(({ status }) =>
          ["Running", "Processing"].includes(status),
        );
        return executions.map(({ job, name }) => {
          const body = azure.app.jobs.body(job);
          const variables = body?.properties?.template?.containers?.[0]?.env ?? [];
          return seenTask(`${job}/${name}`, body, variables);
        });
      },
      sent: async () => JSON.stringify(azure.calls.all().map(({ input }) => input)),
      claimants: async () =>
        claimantsOf(
          azure.calls.all("app.Jobs_Update").map(({ input }) => {
            const { jobName, body } = input as {
              readonly jobName: string;
              readonly body: { readonly tags: Readonly<Record<string, string>> };
            };
            return [jobName, body.tags["sockerless-container"] ?? ""];
          }),
        ),
      refuseClaim: () =>
        void azure.faults.add({
          on: "app.Jobs_Update",
          error: { code: "AuthorizationFailed", status: 403 },
        }),
      bringImage: aca.bringImage,
      [Symbol.asyncDispose]: aca.stop,
    };
  },
};

/** A namespace of a real Kubernetes. */
export const poolOnKubernetes: PoolCloudKind = {
  without: withoutCluster,
  otherOption: ["--tmpfs=/scratch", "volumes, tmpfs, --shm-size or mounts of images"],
  isMadeWithNetworks: false,
  claimCall: "kubernetes.patch pods",
  runCalls: ["kubernetes.create pods"],
  async open(daemon = {}) {
    await using resources = new AsyncDisposableStack();
    const cluster = await sharedCluster(resources);
    const kubernetes = resources.use(
      await KubernetesDaemon.start(cluster, { kubernetes: { linger: "1s" }, daemon }),
    );
    const pods = async (): Promise<readonly Pod[]> => {
      const { items } = JSON.parse(await kubernetes.kubectl("get", "pods", "--output=json")) as {
        readonly items: readonly Pod[];
      };
      return items;
    };
    const claims = new Map<string, Set<string>>();
    const owned = resources.move();
    return {
      daemon: kubernetes.daemon,
      configFile: kubernetes.config,
      async running() {
        const all = await pods();
        return all
          .filter(
            ({ metadata, status }) =>
              metadata.deletionTimestamp === undefined && !["Succeeded", "Failed"].includes(status.phase),
          )
          .map((pod) => {
            const { name, uid } = pod.metadata;
            return seenTask(`${name}/${uid}`, pod, pod.spec.containers[0]?.env ?? []);
          });
      },
      sent: async () => JSON.stringify(await pods()),
      async claimants() {
        for (const { metadata } of await pods()) {
          const container = metadata.annotations["sockerless/container-id"];
          const { name, uid } = metadata;
          if (container !== undefined && metadata.annotations["sockerless/prepared"] !== undefined) {
            const task = `${name}/${uid}`;
            claims.set(task, (claims.get(task) ?? new Set()).add(container));
          }
        }
        return claims;
      },
      async bringImage() {
        const image = `${cluster.registry.host}/busybox:latest`;
        await kubernetes.daemon.ok("pull", image);
        await kubernetes.daemon.ok("tag", image, "busybox");
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  },
};

/** A pod, as far as it is looked at. */
interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly annotations: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: {
    readonly containers: readonly {
      readonly env?: readonly { readonly name: string; readonly value?: string }[];
    }[];
  };
  readonly status: { readonly phase: string };
}

async function openAca(options: AcaDaemonOptions) {
  const aca = await AcaDaemon.start(options);
  const { account, azure, daemon } = aca;
  return {
    ...{ account, azure, daemon },
    async bringImage() {
      await daemon.ok("pull", account.image("busybox:latest"));
      await daemon.ok("tag", account.image("busybox:latest"), "busybox");
    },
    stop: () => aca[Symbol.asyncDispose](),
  };
}

function seenTask(
  task: string,
  told: unknown,
  variables: readonly { readonly name?: string | undefined; readonly value?: string | undefined }[],
): SeenTask {
  const variable = (wanted: string): string | undefined =>
    variables.find(({ name }) => name === wanted)?.value;
  return {
    task,
    isPrepared: variable(preparedVariable) !== undefined,
    name: variable(containerVariable) ?? "",
    told: JSON.stringify(told),
  };
}

function claimantsOf(claims: readonly (readonly string[])[]): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, Set<string>>();
  for (const [task = "", container = ""] of claims) {
    found.set(task, (found.get(task) ?? new Set()).add(container));
  }
  return found;
}
