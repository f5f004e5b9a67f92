/** `--network container:NAME` on ECS: two tasks, each with an interface of its own, that have one network. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { killAndAwaitNext } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

describe("containers that share a network on ECS", () => {
  const under = duringTests(() =>
    EcsDaemon.start({ leastPrivilege: true, ecs: { linger: "1s", drain_timeout: "1s" } }),
  );
  before(async () => {
    await under.daemon.ok("network", "create", "web");
  });

  /** A command that answers each request for `/` with a text. */
  const serve = (text: string, address: string): string[] => [
    "sh",
    "-c",
    `mkdir -p /www && echo ${text} > /www/index.html && exec httpd -f -h /www -p ${address}`,
  ];
  const get = async (from: string, url: string): Promise<string> =>
    (await under.daemon.docker("exec", from, "wget", "-qO-", url)).text;
  const run = (...args: string[]): Promise<string> => under.daemon.ok("run", "--detach", ...args);

  it("have each other's listeners, and their peers reach those by the owner's name", async () => {
    const { daemon } = under;
    const named = ["--name", "app", "--hostname", "apphost", "--add-host", "fixed:10.1.2.3"];
    await run(
      ...[...named, "--network", "web", "--publish", "127.0.0.1::9090", "busybox"],
      ...serve("from-app", "127.0.0.1:8080"),
    );
    await untilTrue(async () => (await get("app", "http://127.0.0.1:8080")) === "from-app");
    // A listener that is there already is there for the first thing that a new container does.
    const shared = ["--network", "container:app"];
    const once = ["run", "--rm", ...shared, "busybox", "wget", "-qO-", "http://localhost:8080"];
    assert.equal(await daemon.ok(...once), "from-app");

    await run("--name", "side", ...shared, "busybox", ...serve("from-side", "9090"));
    await run("--name", "peer", "--network", "web", "busybox", "sleep", "1000");
    await untilTrue(async () => (await get("app", "http://127.0.0.1:9090")) === "from-side");
    assert.equal(await get("side", "http://127.0.0.1:8080"), "from-app");
    assert.equal(await get("peer", "http://app:9090"), "from-side");
    assert.equal(
      await (await fetch(`http://${await daemon.ok("port", "app", "9090")}`)).text(),
      "from-side\n",
    );

    assert.equal(await daemon.ok("exec", "side", "sh", "-c", "echo $HOSTNAME"), "apphost");
    const hosts = await daemon.ok("exec", "side", "cat", "/etc/hosts");
    assert.match(hosts, /^10\.1\.2\.3\s+fixed$/m);
    assert.equal(await get("side", "http://app:9090"), "from-side");
    const taken = await daemon.docker("exec", "side", "httpd", "-f", "-p", "127.0.0.1:8080");
    assert.match(taken.errorText, /bind: Address already in use/);
    const mode = ["inspect", "--format", "{{.HostConfig.NetworkMode}} {{len .NetworkSettings.Networks}}"];
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", "app");
    assert.equal(await daemon.ok(...mode, "side"), `container:${id} 0`);
  });

  it("go on when the owner starts anew, and when the backend was killed", inSoak, async () => {
    const { daemon } = under;
    await daemon.ok("stop", "app");
    assert.equal(await get("side", "http://127.0.0.1:8080"), "");
    await until(async () => {
      const tasks = under.aws.ecs.tasks.filter(({ state }) => state.desiredStatus === "RUNNING");
      return tasks.length === 2 || undefined; // The owner's has gone: the next has another address.
    });
    await daemon.ok("start", "app");
    await untilTrue(async () => (await get("side", "http://127.0.0.1:8080")) === "from-app");
    await untilTrue(async () => (await get("peer", "http://app:9090")) === "from-side");

    await killAndAwaitNext(daemon, "backend");
    await untilTrue(async () => (await daemon.docker("ps")).code === 0);
    await run("--name", "third", "--network", "container:side", "busybox", ...serve("from-third", "7070"));
    await untilTrue(async () => (await get("peer", "http://app:7070")) === "from-third");
    await untilTrue(async () => (await get("side", "http://127.0.0.1:7070")) === "from-third");
    await daemon.ok("rm", "--force", "third");
    await untilTrue(async () => (await get("side", "http://127.0.0.1:7070")) === "");
    assert.equal(await get("third", "http://127.0.0.1:8080"), "");
  });

  it("are of loopback alone where the owner has no network, and refused where the owner does not run", async () => {
    const { daemon } = under;
    await run("--name", "alone", "--network", "none", "busybox", ...serve("from-alone", "8080"));
    await run("--name", "joined", "--network", "container:alone", "busybox", "sleep", "1000");
    await untilTrue(async () => (await get("joined", "http://127.0.0.1:8080")) === "from-alone");
    await daemon.ok("rm", "--force", "joined");
    await daemon.ok("stop", "--time", "1", "alone");
    const stopped = await daemon.docker("run", "--network", "container:alone", "busybox", "true");
    assert.match(stopped.errorText, /cannot join network namespace of a non running container/);
  });

  it("need no more than the documented policy", () => {
    assert.deepEqual(under.deniedCalls, []);
  });
});
