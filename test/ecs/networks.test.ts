/** Networks on ECS: the docker CLI before a simulated AWS that enforces its security groups. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { DescribeSecurityGroupsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { ListServicesCommand, ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

describe("networks on ECS", () => {
  const under = duringTests(() =>
    EcsDaemon.start({ leastPrivilege: true, ecs: { linger: "1s", drain_timeout: "1s" } }),
  );
  const ec2 = duringTests(async () => new EC2Client(under.aws.clientConfig));
  const cloudMap = duringTests(async () => new ServiceDiscoveryClient(under.aws.clientConfig));

  const serve = (text: string): string[] => ["sh", "-c", `while true; do echo ${text} | nc -l -p 8080; done`];
  const ask = async (from: string, name: string): Promise<string> =>
    (
      await under.daemon.docker(
        ...["exec", from, "sh", "-c", `nc -w 3 ${name} 8080 </dev/null 2>/dev/null || echo nobody`],
      )
    ).text;
  const groupOf = async (network: string): Promise<string | undefined> => {
    const id = await under.daemon.ok("network", "inspect", "--format", "{{.Id}}", network);
    const Filters = [{ Name: "group-name", Values: [`sockerless-net-${id.slice(0, 12)}`] }];
    const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({ Filters }));
    return SecurityGroups[0]?.GroupId;
  };
  const serviceNames = async (): Promise<string[]> =>
    ((await cloudMap.send(new ListServicesCommand({}))).Services ?? []).map(({ Name = "" }) => Name).sort();

  it("let their members reach one another by name, and nobody else", async () => {
    const { daemon } = under;
    await daemon.ok("network", "create", "web");
    await daemon.ok("network", "create", "other");
    const detached = ["run", "--detach"];
    await daemon.ok(
      ...[...detached, "--name", "server", "--network", "web", "--network-alias", "api", "busybox"],
      ...serve("hello"),
    );
    await daemon.ok(...detached, "--name", "inside", "--network", "web", "busybox", "sleep", "1000");
    await daemon.ok(...detached, "--name", "outside", "--network", "other", "busybox", "sleep", "1000");
    await untilTrue(async () => (await ask("inside", "server")) === "hello");
    await untilTrue(async () => (await ask("inside", "api")) === "hello"); // Between two clients nobody listens.
    const format = '{{index .NetworkSettings.Networks.web.DriverOpts "com.sockerless.address"}}';
    const address = await daemon.ok("inspect", "--format", format, "server");
    await untilTrue(async () => (await ask("inside", address)) === "hello");
    assert.equal(await ask("outside", address), "nobody");
    assert.equal(await ask("outside", "server"), "nobody");
  });

  it("are mirrored in Cloud Map while their containers run", async () => {
    const { daemon } = under;
    const id = (await daemon.ok("network", "inspect", "--format", "{{.Id}}", "web")).slice(0, 12);
    const wanted = [`api.${id}`, `inside.${id}`, `server.${id}`];
    await untilTrue(async () => {
      const names = await serviceNames();
      return wanted.every((name) => names.includes(name));
    });
    await daemon.ok("rm", "--force", "server");
    await untilTrue(async () => !(await serviceNames()).includes(`server.${id}`));
  });

  it("join running containers in name at once", async () => {
    const { daemon } = under;
    const isKnown = async (name: string): Promise<boolean> =>
      (await daemon.docker("exec", "inside", "ping", "-c", "1", "-W", "1", name)).text.startsWith("PING");
    await daemon.ok("network", "connect", "--alias", "late", "web", "outside");
    await untilTrue(() => isKnown("late"));
    assert.match(daemon.output, /a running container has joined a network/);
    await daemon.ok("network", "disconnect", "web", "outside");
    await untilTrue(async () => !(await isKnown("late")));
  });

  it("that are internal, or none, keep their containers in, and the agent is reached all the same", async () => {
    const { daemon } = under;
    await daemon.ok("network", "create", "--internal", "inner");
    await daemon.ok("run", "--detach", "--name", "world", "busybox", ...serve("world"));
    const format = '{{index .NetworkSettings.Networks.bridge.DriverOpts "com.sockerless.address"}}';
    const world = await daemon.ok("inspect", "--format", format, "world");
    await daemon.ok("run", "--detach", "--name", "open", "busybox", "sleep", "1000");
    await untilTrue(async () => (await ask("open", world)) === "world");
    for (const network of ["inner", "none"]) {
      await daemon.ok(
        ...["run", "--detach", "--name", `in-${network}`, "--network", network, "busybox", "sleep", "1000"],
      );
      assert.equal(await ask(`in-${network}`, world), "nobody");
    }
    await daemon.ok("create", "--name", "left-all", "--network", "inner", "busybox", "sleep", "1000");
    await daemon.ok("network", "disconnect", "inner", "left-all");
    await daemon.ok("start", "left-all");
    assert.equal(await ask("left-all", world), "nobody");
    await daemon.ok("rm", "--force", "world", "open", "in-inner", "in-none", "left-all");
    await daemon.ok("network", "rm", "inner");
  });

  it("let containers with volumes at the file system, and not at one another", async () => {
    const { daemon } = under;
    await daemon.ok("network", "create", "--internal", "inner");
    for (const network of ["web", "inner", "none"]) {
      const [name, share] = [`writes-${network}`, "--volume=shared:/shared"];
      const writes = ["sh", "-c", `echo ${network} >>/shared/names; ${serve(network)[2]}`];
      await daemon.ok("run", "--detach", "--name", name, share, "--network", network, "busybox", ...writes);
    }
    const names = ["exec", "writes-web", "sort", "/shared/names"];
    await untilTrue(async () => (await daemon.ok(...names)) === "inner\nnone\nweb");
    const format = '{{range .NetworkSettings.Networks}}{{index .DriverOpts "com.sockerless.address"}}{{end}}';
    const address = await daemon.ok("inspect", "--format", format, "writes-web");
    await untilTrue(async () => (await ask("inside", address)) === "web");
    for (const network of ["inner", "none"]) {
      assert.equal(await ask(`writes-${network}`, address), "nobody");
    }
    await daemon.ok("rm", "--force", "writes-web", "writes-inner", "writes-none");
    await daemon.ok("network", "rm", "inner");
  });

  it("are at most five for a container", async () => {
    const { daemon } = under;
    await daemon.ok("create", "--name", "many", "busybox", "true");
    for (const name of ["n1", "n2", "n3", "n4", "n5"]) {
      await daemon.ok("network", "create", name);
      await daemon.ok("network", "connect", name, "many");
    }
    const { code, errorText } = await daemon.docker("start", "many");
    assert.equal(code, 1);
    assert.match(errorText, /its task has 5 security groups .*, not 6/);
    await daemon.ok("rm", "many");
    await daemon.ok("network", "rm", "n1", "n2", "n3", "n4", "n5");
  });

  it("go at once, and their groups as soon as nothing holds them", inSoak, async () => {
    const { daemon } = under;
    const group = await groupOf("web");
    assert.ok(group);
    await daemon.ok("rm", "--force", "inside", "outside");
    await daemon.ok("network", "rm", "web", "other");
    await untilTrue(async () => {
      const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({}));
      return SecurityGroups.every(
        ({ GroupName = "" }) => !/^sockerless-net-(?!none|volumes)/.test(GroupName),
      );
    });
  });

  it("need no more than the documented policy", () => {
    assert.deepEqual(under.deniedCalls, []);
  });
});
