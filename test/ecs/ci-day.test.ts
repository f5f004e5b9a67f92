/**
 * A day of continuous integration at AWS's default rates and quotas: jobs, as many at once as the quota of vCPUs has room
 * for, each with a network, a service, a build container and a shared cache. 200 jobs with SOCKERLESS_SOAK=1, else a few.
 * Tasks do not really run.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ApiClient } from "../bench/api-client.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { ManyAgents } from "../support/many-agents.ts";

const jobs = process.env["SOCKERLESS_SOAK"] === "1" ? 200 : 15;
/** Two tasks of a quarter of a vCPU each: 6 vCPUs, AWS's default quota. Tasks that are being stopped count, too. */
const lanes = 12;

test(`${jobs} jobs in ${lanes} lanes end without a failure that a user sees`, async () => {
  await using resources = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "skl-ci-day-"));
  resources.defer(() => rm(directory, { recursive: true }));
  const agents = resources.use(await ManyAgents.listen(directory, "127.0.9.3"));
  const { aws, daemon } = resources.use(
    await EcsDaemon.start({
      aws: { lightweight: true, ecs: { onTask: () => agents.address } },
      ecs: { linger: "0", start_timeout: "30m" },
    }),
  );
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const api = new ApiClient(daemon.socket);
  aws.rates.enabled = true;

  const create = async (name: string, network: string, binds: readonly string[]): Promise<string> => {
    const body = {
      Image: "busybox",
      Cmd: ["sleep", "1000"],
      HostConfig: { NetworkMode: network, Binds: binds },
      NetworkingConfig: { EndpointsConfig: { [network]: { Aliases: [name.split("-")[0]] } } },
    };
    return (await api.json<{ Id: string }>("POST", `/containers/create?name=${name}`, body)).Id;
  };
  const job = async (n: number): Promise<void> => {
    const network = `job-${n}`;
    await api.call("POST", "/networks/create", { Name: network });
    const service = await create(`database-${n}`, network, []);
    const build = await create(`build-${n}`, network, ["cache:/cache", `builds-${n}:/builds`]);
    await api.call("POST", `/containers/${service}/start`);
    await api.call("POST", `/containers/${build}/start`);
    for (const id of [build, service]) {
      await api.call("POST", `/containers/${id}/kill`);
      const { StatusCode } = await api.json<{ StatusCode: number }>("POST", `/containers/${id}/wait`);
      assert.equal(StatusCode, 137);
      await api.call("DELETE", `/containers/${id}?force=1&v=1`);
    }
    await api.call("DELETE", `/networks/${network}`);
    await api.call("DELETE", `/volumes/builds-${n}`);
  };
  const failures: string[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let n = next++; n < jobs; n = next++) {
      await job(n).catch((error: unknown) => failures.push(`job ${n}: ${String(error)}`));
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  assert.deepEqual(failures, []);
  assert.equal(agents.starts, 2 * jobs);
  aws.rates.enabled = false;
});
