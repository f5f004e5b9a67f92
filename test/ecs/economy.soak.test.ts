import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ApiClient } from "../bench/api-client.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { ManyAgents } from "../support/many-agents.ts";
import { scratchDirectory } from "../support/scratch.ts";

const containers = 100;
/** Rounds come no faster than twice in the poll interval of a second, whatever hastens them; one call describes a hundred. */
const roundMs = 500;

describe("many containers that start at once at AWS's default rates", () => {
  it("meet no throttling, and need one RunTask each and little else", async () => {
    await using resources = new AsyncDisposableStack();
    const directory = scratchDirectory();
    const agents = resources.use(await ManyAgents.listen(directory));
    const under = resources.use(
      await EcsDaemon.start({
        aws: {
          lightweight: true,
          quotas: { fargateVcpus: 1_000 },
          ecs: { onTask: () => agents.address },
        },
      }),
    );
    const { aws, daemon } = under;
    const api = new ApiClient(daemon.socket, containers);
    const ids = await Promise.all(
      Array.from({ length: containers }, async (_, n) => {
        // Two kinds of containers, which differ in what only a task definition can say.
        const HostConfig = { ReadonlyRootfs: n % 2 === 0 };
        const body = { Image: "busybox", Cmd: ["sleep", String(n)], Env: [`N=${n}`], HostConfig };
        return (await api.json<{ Id: string }>("POST", "/containers/create", body)).Id;
      }),
    );
    aws.rates.enabled = true;
    aws.calls.clear();
    const before = performance.now();
    await Promise.all(ids.map((id) => api.call("POST", `/containers/${id}/start`)));
    const looks = Math.ceil((performance.now() - before) / roundMs) + 2;
    assert.equal(agents.starts, containers);
    // A call that this machine delays may meet the bucket of others; that is repeated, and no user hears of it.
    const done = (operation: string) =>
      aws.calls.all(operation).filter(({ error }) => error !== "ThrottlingException").length;
    const counts = JSON.stringify(aws.calls.counts());
    assert.equal(done("ecs.RunTask"), containers, counts);
    assert.equal(done("ecs.RegisterTaskDefinition"), 2, counts);
    assert.ok(done("ecs.DescribeTasks") <= looks, `${looks} looks: ${counts}`);
    aws.rates.enabled = false;
  });
});
