/**
 * A day of continuous integration at AWS's default rates and quotas, and with this backend's default settings: jobs with a network, a service, a build container
 * and a shared cache each. More of them are at work than the quota of vCPUs has room for, and more networks are there
 * at once than the file system's security group has room for rules. Tasks do not really run.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import { ApiClient } from "../bench/api-client.ts";
import type { Aws } from "../simulators/aws/aws.ts";
import type { TaskState } from "../simulators/aws/services/ecs/task-state.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { ManyAgents } from "../support/many-agents.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const jobs = 200;
/** Each is two tasks of a quarter of a vCPU; 15 services leave room for one build. */
const [atWork, vcpus] = [15, 4];
/** Their networks are there before their tasks are started. */
const prepared = 100;
/** AWS's default. */
const rulesPerGroup = 60;

test(`${jobs} jobs, ${atWork} at a time, end without a failure that a user sees`, async (t) => {
  await using resources = new AsyncDisposableStack();
  const directory = scratchDirectory();
  const tasks = new Map<string, string>();
  const agents: ManyAgents = resources.use(
    await ManyAgents.listen(directory, (id) => aws.ecs.end(tasks.get(id) ?? "")),
  );
  const { aws, daemon } = resources.use(
    await EcsDaemon.start({
      aws: {
        lightweight: true,
        quotas: { rulesPerSecurityGroup: rulesPerGroup, fargateVcpus: vcpus },
        ecs: {
          onTask: (task) => {
            tasks.set(containerOf(task), task.taskArn);
            return agents.address;
          },
        },
      },
    }),
  );
  const api = new ApiClient(daemon.socket, 2 * prepared);
  resources.defer(() => api.close());
  aws.rates.enabled = true;
  const rulesAtFirst = efsRules(aws);

  const create = async (name: string, network: string, binds: readonly string[]): Promise<string> => {
    const body = {
      Image: "busybox",
      Cmd: ["sleep", "1000"],
      HostConfig: { NetworkMode: network, Binds: binds },
      NetworkingConfig: { EndpointsConfig: { [network]: { Aliases: [name.split("-")[0]] } } },
    };
    return (await api.json<{ Id: string }>("POST", `/containers/create?name=${name}`, body)).Id;
  };
  const work = new Slots(atWork);
  const job = async (n: number): Promise<void> => {
    const network = `job-${n}`;
    await api.call("POST", "/networks/create", { Name: network });
    const service = await create(`database-${n}`, network, []);
    const build = await create(`build-${n}`, network, ["cache:/cache", `builds-${n}:/builds`]);
    await work.take();
    try {
      for (const id of [service, build]) {
        const startedAt = performance.now();
        await api.call("POST", `/containers/${id}/start`);
        startSeconds.push((performance.now() - startedAt) / 1000);
      }
      for (const id of [build, service]) {
        await api.call("POST", `/containers/${id}/kill`);
        const { StatusCode } = await api.json<{ StatusCode: number }>("POST", `/containers/${id}/wait`);
        assert.equal(StatusCode, 137);
        await api.call("DELETE", `/containers/${id}?force=1&v=1`);
      }
    } finally {
      work.give();
    }
    await api.call("DELETE", `/networks/${network}`);
    await api.call("DELETE", `/volumes/builds-${n}`);
  };
  const startSeconds: number[] = [];
  const failures: string[] = [];
  const begunAt = performance.now();
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let n = next++; n < jobs; n = next++) {
      await job(n).catch((error: unknown) => failures.push(`job ${n}: ${String(error)}`));
    }
  };
  await Promise.all(Array.from({ length: prepared }, lane));
  const minutes = (performance.now() - begunAt) / 60_000;
  const waits = daemon.output.match(/a container waits to be started/g)?.length ?? 0;
  t.diagnostic(
    `${minutes.toFixed(1)} min; starts took ${Math.max(...startSeconds).toFixed(0)} s at most; ${waits} waited for the quota; RunTask was called ${aws.calls.all("ecs.RunTask").length} times`,
  );
  assert.deepEqual(failures, []);
  assert.equal(agents.starts, 2 * jobs);

  // A start that had to wait says for what.
  assert.match(daemon.output, /a container waits to be started: .*number of vCPUs/);
  // One rule is enough for all networks, and no task has a wider group.
  const groups = aws.calls.all("ecs.RunTask").map(({ input }) => groupsOf(input as RunTaskCommandInput));
  assert.ok(groups.every((each) => !each.includes(aws.account.securityGroupId)));
  const [services, builds] = [1, 2].map((count) => groups.filter(({ length }) => length === count).length);
  assert.ok(services !== undefined && builds !== undefined && Math.min(services, builds) >= jobs);
  assert.equal(services + builds, groups.length);
  // Nothing is left of them, and what the quotas count is free again.
  await untilTrue(() =>
    aws.services.network.groups
      .all()
      .every(({ tags }) => [undefined, "volumes"].includes(tags["sockerless-network"])),
  );
  assert.equal(efsRules(aws), rulesAtFirst + 1);
  await untilTrue(() => aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED"));
  aws.rates.enabled = false;
});

/** So many at a time, in the order in which they came. */
class Slots {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<void> {
    if (this.#free > 0) {
      this.#free--;
    } else {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) {
      this.#free++;
    } else {
      next();
    }
  }
}

function containerOf({ overrides }: TaskState): string {
  const variables = overrides.containerOverrides?.flatMap(({ environment = [] }) => environment) ?? [];
  return variables.find(({ name }) => name === "SOCKERLESS_CONTAINER_ID")?.value ?? "";
}

function groupsOf({ networkConfiguration }: RunTaskCommandInput): readonly string[] {
  return networkConfiguration?.awsvpcConfiguration?.securityGroups ?? [];
}

function efsRules({ services, account }: Aws): number {
  const group = services.network.groups.all().find(({ groupId }) => groupId === account.efsSecurityGroupId);
  return group?.rules.length ?? 0;
}
