/** A user's first day on an AWS whose subnets have IPv6 alone. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { isIPv6 } from "node:net";
import { describe, it } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { until, untilTrue } from "../support/until.ts";
import { testSession } from "./session.ts";

/** The kernel says so by this file. */
const hasIpv6 = existsSync("/proc/net/if_inet6");

describe("in subnets that have IPv6 alone", { skip: hasIpv6 ? false : "this machine has no IPv6" }, () => {
  const under = duringTests(() =>
    EcsDaemon.start({
      leastPrivilege: true,
      aws: { ipv6: true },
      ecs: { linger: "5s", drain_timeout: "1s" },
    }),
  );
  const ok = (...args: string[]): Promise<string> => under.daemon.ok(...args);

  testSession(() => under.daemon, false);

  const serve = (text: string): string[] => ["sh", "-c", `while true; do echo ${text} | nc -l -p 8080; done`];
  const ask = async (from: string, name: string): Promise<string> => {
    const script = `nc -w 3 ${name} 8080 </dev/null 2>/dev/null || echo nobody`;
    return (await under.daemon.docker("exec", from, "sh", "-c", script)).text;
  };

  it("containers have an IPv6 address, by which their names lead to them", async () => {
    await ok("network", "create", "web");
    await ok("network", "create", "other");
    await ok("run", "--detach", "--name=server", "--network=web", "busybox", ...serve("hello"));
    const inside = ["--network=web", "--link=server:linked"];
    await ok("run", "--detach", "--name=inside", ...inside, "busybox", "sleep", "1000");
    await ok("run", "--detach", "--name=outside", "--network=other", "busybox", "sleep", "1000");
    const settings =
      "{{with .NetworkSettings.Networks.web}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}}{{end}}";
    const [address = "", prefix] = (await ok("inspect", "--format", settings, "server")).split("/");
    assert.ok(isIPv6(address), address);
    assert.equal(prefix, "64");
    for (const name of ["server", "linked", address]) {
      await untilTrue(async () => (await ask("inside", name)) === "hello"); // Between two clients nobody listens.
    }
    assert.equal(await ask("outside", address), "nobody");
    assert.match(await ok("exec", "server", "cat", "/etc/hosts"), new RegExp(`^${address}\\s`, "m"));
    const service = `server.${(await ok("network", "inspect", "--format={{.Id}}", "web")).slice(0, 12)}`;
    const registered = await until(() =>
      [...under.aws.services.cloudMap.services.values()].find(
        ({ name, instances }) => name === service && instances.size > 0,
      ),
    );
    assert.deepEqual(
      registered.records.map(({ Type }) => Type),
      ["AAAA"],
    );
    assert.deepEqual(
      [...registered.instances.values()].map(({ attributes }) => attributes),
      [{ AWS_INSTANCE_IPV6: address }],
    );
    const outsideName = `${service}.${under.aws.account.namespace.name}`;
    assert.match(await ok("exec", "outside", "nslookup", "-type=aaaa", outsideName), new RegExp(address));
    await ok("rm", "--force", "server", "inside", "outside");
    await ok("network", "rm", "web", "other");
  });

  it("an internal network leads nowhere", async () => {
    await ok("network", "create", "--internal", "inner");
    await ok("run", "--detach", "--name=world", "busybox", ...serve("world"));
    const format = "{{.NetworkSettings.GlobalIPv6Address}}";
    const world = await ok("inspect", "--format", format, "world");
    await ok("run", "--detach", "--name=open", "busybox", "sleep", "1000");
    await ok("run", "--detach", "--name=shut", "--network=inner", "busybox", "sleep", "1000");
    await untilTrue(async () => (await ask("open", world)) === "world");
    assert.equal(await ask("shut", world), "nobody");
    const name = `sockerless-net-${(await ok("network", "inspect", "--format={{.Id}}", "inner")).slice(0, 12)}`;
    const group = under.aws.services.network.groups.all().find((each) => each.name === name);
    const open = (group?.rules ?? []).filter(
      ({ direction, protocol, peer }) => direction === "egress" && protocol === "-1" && "cidr" in peer,
    );
    assert.deepEqual(open, []);
    await ok("rm", "--force", "world", "open", "shut");
    await ok("network", "rm", "inner");
  });

  it("a port is published, and a network is shared", async () => {
    const page = "echo published > /index.html; exec httpd -f -p 8080 -h /";
    await ok("run", "--detach", "--name=owner", "--publish=127.0.0.1::8080", "busybox", "sh", "-c", page);
    const port = (await ok("port", "owner", "8080/tcp")).split(":").at(-1);
    const get = async (): Promise<string | undefined> =>
      await (await fetch(`http://127.0.0.1:${port}/index.html`).catch(() => undefined))?.text();
    await untilTrue(async () => (await get()) === "published\n");
    await ok("run", "--detach", "--name=sharer", "--network=container:owner", "busybox", "sleep", "1000");
    const shared = ["exec", "sharer", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html"];
    assert.equal(await ok(...shared), "published");
    await ok("rm", "--force", "sharer", "owner");
  });

  it("nothing in the tasks' logs looks like an attack", () => {
    const refusals = under.aws.logged().filter((line) => line.includes("a client was refused"));
    const isOfTime = (line: string): boolean => /timeout|deadline exceeded/.test(line); // A busy machine's.
    assert.deepEqual(
      refusals.filter((line) => !isOfTime(line)),
      [],
    );
  });

  it("the documented policy is enough", () => {
    assert.deepEqual(under.deniedCalls, []);
  });
});
