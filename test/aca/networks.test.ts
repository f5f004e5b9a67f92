/** Networks on Container Apps: records with virtual addresses, in the specification's words. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { duringTests } from "../support/during-tests.ts";

describe("networks on Container Apps", () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "1s", drain_timeout: "1s" } }));

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);

  const writes = (): number =>
    aca.azure.calls.all().filter(({ operation }) => operation.includes("Create")).length;

  it("are nothing in Azure, give virtual addresses, and stay while containers are on them", async () => {
    const before = writes();
    const id = await ok("network", "create", "--label", "a=b", "net");
    assert.match(id, /^[0-9a-f]{64}$/);
    assert.equal(
      await ok("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "net"),
      "172.18.0.0/24",
    );
    assert.equal(writes(), before);
    const container = await ok(
      ...[
        "run",
        "--detach",
        "--name",
        "db",
        "--network",
        "net",
        "--network-alias",
        "postgres",
        "busybox",
        "sleep",
        "600",
      ],
    );
    const endpoint = "{{with .NetworkSettings.Networks.net}}{{.IPAddress}} {{.Gateway}} {{.Aliases}}{{end}}";
    assert.equal(await ok("inspect", "--format", endpoint, "db"), "172.18.0.2 172.18.0.1 [postgres]");
    for (const force of [[], ["--force"]]) {
      const { errorText } = await aca.daemon.docker("network", "rm", ...force, "net");
      assert.match(errorText, /^Error response from daemon: network has active endpoints$/m);
    }
    await ok("network", "disconnect", "--force", "net", "db");
    assert.equal(await ok("network", "prune", "--force", "--filter", "label=a=c"), "");
    assert.equal((await ok("network", "prune", "--force")).trim(), `Deleted Networks:\n${id}`);
    await ok("network", "create", "again");
    await ok("network", "connect", "again", "db");
    await ok("network", "disconnect", "--force", "again", "db");
    await ok("network", "rm", "again");
    await ok("rm", "--force", container);
  });

  it("lead from one job to another by name and alias, whichever starts first", async () => {
    await ok("network", "create", "lane");
    const detached = ["run", "--detach", "--network", "lane"];
    const ask = (name: string): string => `until echo hello | nc ${name} 5432 | grep hello; do sleep 1; done`;
    await ok(...detached, "--name", "early", "busybox", "sh", "-c", ask("postgres"));
    const server = [...detached, "--name", "db", "--network-alias", "postgres"];
    await ok(...server, "busybox", "nc", "-ll", "-p", "5432", "-e", "cat");
    assert.equal(await ok("wait", "early"), "0");
    assert.equal(await ok("logs", "early"), "hello");
    assert.equal(await ok("run", "--rm", "--network", "lane", "busybox", "sh", "-c", ask("db")), "hello");
    await ok("network", "create", "other");
    const apart = ["run", "--rm", "--network", "other", "busybox", "nc", "db", "5432"];
    assert.notEqual((await aca.daemon.docker(...apart)).code, 0);
    await ok("rm", "--force", "early", "db");
    await ok("network", "rm", "lane");
  });

  it("that are internal keep nobody in, which a container that is made on one tells", async () => {
    await ok("network", "create", "--internal", "shut");
    const told = (network: string) => aca.daemon.docker("create", "--network", network, "busybox");
    const [shut, open] = [await told("shut"), await told("bridge")];
    assert.match(shut.errorText, /docker network create --internal.*a job keeps its way out/);
    assert.equal(open.errorText, "");
    await ok("rm", shut.text, open.text);
    await ok("network", "rm", "shut");
  });

  it("cannot be kept from a job, whose agent has to call", async () => {
    const { code, errorText } = await aca.daemon.docker("run", "--network", "none", "busybox", "true");
    assert.equal(code, 125);
    assert.match(errorText, /--network none/);
    assert.equal(await ok("ps", "--all", "--quiet"), "");
  });
});
