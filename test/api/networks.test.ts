/** User-defined networks, through the real docker CLI: names, addresses, isolation, joining and leaving. */
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";

import { backendUnderTest, notOn, onlyOn } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { startNameServer } from "../support/name-server.ts";
import { pastEvents } from "../support/past-events.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, inspect, api } = withDaemon();

/**
 * The port of a container by its name: 80, but on Azure, where a name leads to the asking container's own listener if both
 * listen at one.
 */
function portOf(name: string): string {
  if (backendUnderTest() !== "aca") {
    return "80";
  }
  ports.add(name);
  return String(8000 + [...ports].indexOf(name));
}
const ports = new Set<string>();

/** A container that tells its name to whoever connects to its port. */
async function serving(name: string, ...flags: string[]): Promise<string> {
  const id = await ok(
    ...["run", "-d", "--name", name, ...flags, "busybox", "nc", "-ll", "-p", portOf(name), "-e", "echo"],
    name,
  );
  await until(async () =>
    (await docker("exec", name, "sh", "-c", `netstat -ltn | grep -q :${portOf(name)}`)).code === 0
      ? true
      : undefined,
  );
  return id;
}

/** Returns what answers at a name of a container, as another sees it. */
async function reached(from: string, name: string, to = name): Promise<string> {
  const { text } = await docker("exec", from, "timeout", "30", "nc", "-w", "20", name, portOf(to));
  return text;
}

/**
 * Fails if a container answers at its address on a network within two seconds, as another sees it. On Kubernetes the CNI plugin
 * decides that, by the NetworkPolicies that test/kubernetes looks at: the tests' own enforces none.
 */
async function assertUnreachable(from: string, to: string, network: string): Promise<void> {
  if (backendUnderTest() === "kubernetes") {
    return;
  }
  const address = await reachableOn(to, network);
  const { text } = await docker("exec", from, "timeout", "3", "nc", "-w", "2", address, portOf(to));
  assert.equal(text, "");
}

/** The IPv4 addresses that a name has in a container. */
async function resolved(from: string, name: string): Promise<string[]> {
  const { text } = await docker("exec", from, "nslookup", "-type=a", name, "127.0.0.11");
  const [, ...answers] = text.split("Name:");
  return answers.map((answer) => /Address: (\S+)/.exec(answer)?.[1] ?? "").sort();
}

/** By which gateway and interface a container reaches everything else; "" where it does not. */
async function defaultRoute(container: string): Promise<string> {
  const routes = await ok("exec", container, "ip", "route");
  return (
    routes
      .split("\n")
      .find((route) => route.startsWith("default "))
      ?.trim() ?? ""
  );
}

// The machine has few address pools, and other daemons on it take some.
afterEach(async () => {
  const containers = (await ok("ps", "--all", "--quiet")).split("\n").filter((id) => id !== "");
  if (containers.length > 0) {
    await ok("rm", "--force", ...containers);
  }
  await ok("network", "prune", "--force");
});

const addressOn = (container: string, network: string) =>
  inspect(container, `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`);

/** Address that reaches a container on a network: tasks have their own, jobs one on their peers' loopback. */
async function reachableOn(container: string, network: string): Promise<string> {
  switch (backendUnderTest()) {
    case "local":
      return await addressOn(container, network);
    case "ecs":
    case "kubernetes":
      return await inspect(
        container,
        `{{index (index .NetworkSettings.Networks "${network}").DriverOpts "com.sockerless.address"}}`,
      );
    case "aca":
      return (await addressOn(container, network)).replace(/^\d+/, "127");
  }
}

describe("names", () => {
  test("containers of one network find each other by name, alias and short ID, whoever came first", async () => {
    await ok("network", "create", "names");
    const early = await serving("early", "--network", "names", "--network-alias", "first");
    const late = await serving("late", "--network", "names", "--network-alias", "second", "-h", "latehost");
    assert.equal(await reached("early", "late"), "late");
    assert.equal(await reached("early", "second", "late"), "late");
    assert.equal(await reached("late", "first", "early"), "early");
    assert.equal(await reached("late", early.slice(0, 12), "early"), "early");
    assert.equal(await reached("early", late.slice(0, 12), "late"), "late");
    assert.equal(await reached("early", "latehost", "late"), "late");
    assert.equal(await reached("early", "late.names", "late"), "late");
    const address = await reachableOn("late", "names");
    assert.match(
      await ok("exec", "early", "nslookup", address, "127.0.0.11"),
      /name = late\.names/,
      "an address resolves back to its name",
    );
    assert.equal(
      await inspect("late", '{{join (index .NetworkSettings.Networks "names").DNSNames ","}}'),
      `late,second,${late.slice(0, 12)},latehost`,
    );
    // As Docker, which takes 0 where the machine's own file says nothing: Azure's does.
    const dots = backendUnderTest() === "aca" ? 5 : 0;
    assert.match(
      await ok("exec", "early", "cat", "/etc/resolv.conf"),
      new RegExp(`^nameserver 127\\.0\\.0\\.11\\n(?:.*\\n)*options .*ndots:${dots}`, "m"),
    );
  });

  test("are there when the first process asks", async () => {
    await ok("network", "create", "at-once");
    await serving("there", "--network", "at-once");
    for (let round = 0; round < 5; round++) {
      const text = await ok(
        ...["run", "--rm", "--network", "at-once", "busybox", "nc", "-w", "20", "there", portOf("there")],
      );
      assert.equal(text, "there");
    }
  });

  test("do not hide why a container on a network of one's own did not start", async () => {
    await ok("network", "create", "telling");
    const { code, errorText } = await daemon.docker("run", "--rm", "--network=telling", "busybox", "nosuch");
    assert.equal(code, 127);
    assert.match(errorText, /exec: "nosuch": executable file not found in \$PATH: unknown/);
    assert.doesNotMatch(errorText, /has ended/);
  });

  test("of several containers with one alias are all answered, and go with their container", async () => {
    await ok("network", "create", "shared-alias");
    for (const name of ["one", "two"]) {
      await serving(name, "--network", "shared-alias", "--network-alias", "both");
    }
    const addresses = [
      await reachableOn("one", "shared-alias"),
      await reachableOn("two", "shared-alias"),
    ].sort();
    // A job's own name is its interface's address, which nothing tells.
    const asker = backendUnderTest() === "aca" ? "asker" : "one";
    if (asker !== "one") {
      await serving(asker, "--network", "shared-alias");
    }
    assert.deepEqual(await resolved(asker, "both"), addresses);
    await ok("rm", "-f", "two");
    await until(async () => ((await resolved(asker, "both")).length === 1 ? true : undefined));
    assert.deepEqual(await resolved(asker, "two"), []);
  });

  test("change with docker rename", async () => {
    await ok("network", "create", "renaming");
    await serving("before", "--network", "renaming");
    await serving("asking", "--network", "renaming");
    await ok("rename", "before", "afterwards");
    // Peers are told behind the answer.
    await until(async () => ((await resolved("asking", "before")).length === 0 ? true : undefined));
    assert.equal(await reached("asking", "afterwards", "before"), "before");
  });

  test("do not resolve on the default bridge, which keeps the machine's servers", async () => {
    await serving("plain");
    assert.doesNotMatch(await ok("exec", "plain", "cat", "/etc/resolv.conf"), /127\.0\.0\.11/);
  });

  test("that no peer has are asked of other servers, but never from internal networks", {
    skip: onlyOn("local", "a name server on this machine's loopback is nowhere in a task's network"),
  }, async () => {
    await using server = await startNameServer("192.0.2.7");
    await ok("network", "create", "open");
    await ok("network", "create", "--internal", "shut");
    await serving("asker", "--network", "open", "--dns", server.address);
    await serving("prisoner", "--network", "shut", "--dns", server.address);
    assert.deepEqual(await resolved("asker", "elsewhere.example"), ["192.0.2.7"]);
    assert.deepEqual(await resolved("asker", "asker"), [await addressOn("asker", "open")]);
    assert.deepEqual(await resolved("prisoner", "secret.example"), []);
    assert.deepEqual([...new Set(server.asked)], ["elsewhere.example"]);
    await ok("network", "connect", "open", "prisoner");
    assert.deepEqual(await resolved("prisoner", "free.example"), ["192.0.2.7"]);
  });

  test("are the same in a container that shares another's network", {
    skip: notOn("aca", "jobs share no network") || notOn("kubernetes", "no pod joins another's"),
  }, async () => {
    await ok("network", "create", "sharing");
    await serving("owner", "--network", "sharing");
    await serving("friend", "--network", "sharing");
    const text = await ok(
      ...["run", "--rm", "--network=container:owner", "busybox", "nc", "-w", "20", "friend", "80"],
    );
    assert.equal(text, "friend");
  });

  test("of an extra host lead to the peer whose address inspect shows", async () => {
    await ok("network", "create", "copied");
    await serving("shown", "--network", "copied");
    const address = await ok(
      ...["inspect", "--format", "{{.NetworkSettings.Networks.copied.IPAddress}}", "shown"],
    );
    const flags = ["--network", "copied", "--add-host", `given:${address}`];
    await ok("run", "-d", "--name", "copier", ...flags, "busybox", "sleep", "1000");
    assert.equal(await reached("copier", "given", "shown"), "shown");
  });

  test("are known again after a restart of the backend", async () => {
    await ok("network", "create", "lasting");
    await serving("stays", "--network", "lasting", "--network-alias", "kept");
    await serving("asks", "--network", "lasting");
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await reached("asks", "kept", "stays"), "stays");
    await serving("newcomer", "--network", "lasting");
    assert.equal(await reached("asks", "newcomer"), "newcomer");
    assert.equal(await reached("newcomer", "kept", "stays"), "stays");
  });
});

describe("networks", () => {
  test("are apart from each other", async () => {
    await ok("network", "create", "here");
    await ok("network", "create", "elsewhere");
    await serving("inside", "--network", "here");
    await serving("outside", "--network", "elsewhere");
    assert.deepEqual(await resolved("inside", "outside"), []);
    await assertUnreachable("inside", "outside", "elsewhere");
  });

  test("that are internal have no way out, and their members reach each other", async () => {
    await ok("network", "create", "--internal", "closed");
    await serving("kept-in", "--network", "closed");
    await serving("neighbour", "--network", "closed");
    assert.equal(await reached("kept-in", "neighbour"), "neighbour");
    // A task has its subnet's route, and rules that let nothing out.
    assert.equal((await defaultRoute("kept-in")) === "", backendUnderTest() === "local");
    await serving("on-bridge");
    await assertUnreachable("kept-in", "on-bridge", "bridge");
    assert.equal(await inspect("kept-in", "{{.NetworkSettings.Networks.closed.Gateway}}"), "");
  });

  test("give the address that was asked for, from their range otherwise", async () => {
    await ok(
      ...["network", "create", "--subnet=10.214.0.0/16", "--ip-range=10.214.5.0/24"],
      ...["--gateway=10.214.5.254", "--aux-address", "router=10.214.5.1", "fixed"],
    );
    await serving("asked", "--network", "fixed", "--ip", "10.214.0.77");
    await serving("given", "--network", "fixed");
    assert.equal(await addressOn("asked", "fixed"), "10.214.0.77");
    assert.equal(await addressOn("given", "fixed"), "10.214.5.0");
    // The address on a job's loopback is there once it has asked for the name.
    const asked = backendUnderTest() === "aca" ? "asked" : await reachableOn("asked", "fixed");
    assert.equal(await reached("given", asked, "asked"), "asked");
    const twice = await docker("run", "--rm", "--network", "fixed", "--ip", "10.214.0.77", "busybox", "true");
    assert.equal(twice.code, 125);
    assert.match(twice.errorText, /Address already in use/);
    const foreign = await docker("run", "--rm", "--network", "fixed", "--ip", "10.1.2.3", "busybox", "true");
    assert.match(foreign.errorText, /no configured subnet or ip-range contain the IP address 10\.1\.2\.3/);
    const overlapping = await docker("network", "create", "--subnet", "10.214.128.0/24", "overlapping");
    assert.match(overlapping.errorText, /Pool overlaps with other one on this address space/);
  });

  test("may be two of one container, from its start on and one after the other", async () => {
    await ok("network", "create", "left");
    await ok("network", "create", "right");
    await serving("on-left", "--network", "left");
    await serving("on-right", "--network", "right");
    await serving("on-both", "--network", "left", "--network", "name=right,alias=middle");
    for (const [peer, name] of [
      ["on-left", "on-both"],
      ["on-right", "middle"],
    ] as const) {
      assert.equal(await reached(peer, name, "on-both"), "on-both");
      assert.equal(await reached("on-both", peer), peer);
    }
    assert.deepEqual(await resolved("on-left", "on-right"), []);
    await assertUnreachable("on-left", "on-right", "right");
    const device = ["local", "kubernetes"].includes(backendUnderTest()) ? "eth0" : "eth1"; // the platform's name
    assert.match(await defaultRoute("on-both"), new RegExp(`^default via \\S+ dev ${device}$`));
  });

  test("are joined and left while the container runs", {
    skip: notOn("ecs", "the security groups of a task are those of its start"),
  }, async () => {
    const network = await ok("network", "create", "joined");
    const member = await serving("member", "--network", "joined");
    const walker = await serving("walker");
    const before = await ok("exec", "walker", "cat", "/etc/hosts");
    await ok("network", "connect", "--alias", "guest", "joined", "walker");
    assert.equal(await reached("member", "guest", "walker"), "walker");
    assert.equal(await reached("walker", "member"), "member");
    if (backendUnderTest() === "local") {
      assert.match(
        await ok("exec", "walker", "cat", "/etc/hosts"),
        new RegExp(await addressOn("walker", "joined")),
      );
    }
    const listed = JSON.parse(
      await ok("network", "inspect", "joined", "--format", "{{json .Containers}}"),
    ) as Record<string, { Name: string; IPv4Address: string }>;
    assert.deepEqual(
      Object.values(listed)
        .map(({ Name }) => Name)
        .sort(),
      ["member", "walker"],
    );
    assert.match(listed[member]?.IPv4Address ?? "", /^(\d+\.){3}2\/\d+$/);
    const again = await docker("network", "connect", "joined", "walker");
    assert.match(again.errorText, /endpoint with name walker already exists in network joined/);
    await ok("network", "disconnect", "joined", "walker");
    await until(async () => ((await resolved("member", "guest")).length === 0 ? true : undefined));
    await assertUnreachable("walker", "member", "joined");
    assert.equal(await ok("exec", "walker", "cat", "/etc/hosts"), before);
    const events = await pastEvents(daemon, { network: [network] });
    assert.deepEqual(
      events.map(({ Action, Actor: { Attributes } }) => [Action, Attributes["container"]]),
      [
        ["create", undefined],
        ["connect", member],
        ["connect", walker],
        ["disconnect", walker],
      ],
    );
  });

  test("are joined in name at once, and in traffic from the next start on", {
    skip: onlyOn("ecs", "others give the container an interface"),
  }, async () => {
    await ok("network", "create", "joined");
    const member = await serving("member", "--network", "joined");
    const walker = await serving("walker");
    await ok("network", "connect", "--alias", "guest", "joined", "walker");
    await until(async () => ((await resolved("member", "guest")).length === 1 ? true : undefined));
    assert.deepEqual(await resolved("member", "guest"), [await reachableOn("walker", "joined")]);
    await assertUnreachable("walker", "member", "joined");
    await ok("restart", "-t", "0", "walker");
    await until(async () => ((await reached("member", "guest")) === "walker" ? true : undefined));
    assert.equal(await reached("walker", "member"), "member");
    const listed = JSON.parse(
      await ok("network", "inspect", "joined", "--format", "{{json .Containers}}"),
    ) as Record<string, unknown>;
    assert.deepEqual(new Set(Object.keys(listed)), new Set([member, walker]));
    await ok("network", "disconnect", "joined", "walker");
    await until(async () => ((await resolved("member", "guest")).length === 0 ? true : undefined));
    await ok("restart", "-t", "0", "walker");
    await assertUnreachable("walker", "member", "joined");
  });

  test("of a container that does not run count from its next start on", async () => {
    await ok("network", "create", "next");
    await serving("waits", "--network", "next");
    await ok("create", "--name", "stopped", "busybox", "nc", "-w", "20", "waits", portOf("waits"));
    await ok("network", "connect", "next", "stopped");
    assert.equal(await ok("start", "-a", "stopped"), "waits");
    await ok("network", "disconnect", "next", "stopped");
    assert.equal(await inspect("stopped", "{{len .NetworkSettings.Networks}}"), "1");
    const twice = await docker("network", "disconnect", "next", "stopped");
    assert.match(twice.errorText, /is not connected to the network next/);
  });

  test("lead out by what is left when the first is left", {
    skip: onlyOn("local", "a task has one interface, whatever its networks"),
  }, async () => {
    await ok("network", "create", "remaining");
    await serving("moving", "--network", "bridge");
    await ok("network", "connect", "remaining", "moving");
    await ok("network", "disconnect", "bridge", "moving");
    const gateway = await inspect("moving", "{{.NetworkSettings.Networks.remaining.Gateway}}");
    assert.match(await defaultRoute("moving"), new RegExp(`via ${gateway} dev eth1`));
    await ok("restart", "-t", "0", "moving");
    assert.match(await defaultRoute("moving"), new RegExp(`via ${gateway} dev eth0`));
  });
});

describe("docker network", () => {
  test("create, inspect, ls, rm and prune answer as described", async () => {
    const created = await api.call("POST", "/networks/create", {
      Name: "described",
      Labels: { made: "here" },
      Options: { "com.docker.network.bridge.enable_icc": "true" },
      IPAM: { Config: [{ Subnet: "10.215.0.0/24", AuxiliaryAddresses: { nas: "10.215.0.9" } }] },
    });
    assert.equal(created.status, 201, created.text);
    assertDescribed("post", "/networks/create", 201, created.json());
    const { Id } = created.json() as { Id: string };
    await ok("run", "-d", "--name", "member-of-described", "--network", Id, "busybox", "sleep", "1000");
    const inspected = await api.call("GET", `/networks/${Id.slice(0, 10)}`);
    assertDescribed("get", "/networks/{id}", 200, inspected.json());
    const told = inspected.json() as { IPAM: { Config: unknown }; Labels: unknown; Containers: object };
    assert.deepEqual(told.IPAM.Config, [
      { Subnet: "10.215.0.0/24", Gateway: "10.215.0.1", AuxiliaryAddresses: { nas: "10.215.0.9" } },
    ]);
    assert.deepEqual(told.Labels, { made: "here" });
    assert.equal(Object.keys(told.Containers).length, 1);
    const listed = await api.call("GET", `/networks?filters=${encodeURIComponent('{"label":["made"]}')}`);
    assertDescribed("get", "/networks", 200, listed.json());
    assert.equal((listed.json() as unknown[]).length, 1);
    const used = await api.call("DELETE", "/networks/described");
    assert.equal(used.status, 403);
    assert.match(
      (used.json() as { message: string }).message,
      backendUnderTest() === "aca"
        ? /^network has active endpoints$/
        : /^error while removing network: network described has active endpoints \(name:"member-of-described" id:"[0-9a-f]{12}"\)$/,
    );
    await ok("rm", "-f", "member-of-described");
    const pruned = await api.call(
      "POST",
      `/networks/prune?filters=${encodeURIComponent('{"label":["made"]}')}`,
    );
    assertDescribed("post", "/networks/prune", 200, pruned.json());
    assert.deepEqual(pruned.json(), { NetworksDeleted: [backendUnderTest() === "aca" ? Id : "described"] });
    assert.equal((await api.call("GET", "/networks/described")).status, 404);
  });

  test("create takes settings from a network that holds nothing else", async () => {
    await ok("network", "create", "--config-only", "--subnet", "10.214.0.0/24", "--label", "a=b", "settings");
    const source = await api.call("GET", "/networks/settings");
    assertDescribed("get", "/networks/{id}", 200, source.json());
    const shown = (inspected: unknown) => {
      const { Driver, Scope, ConfigOnly, ConfigFrom, IPAM, Labels } = inspected as Record<string, unknown>;
      const { Config } = IPAM as { readonly Config: unknown };
      return { Driver, Scope, ConfigOnly, ConfigFrom, Config, Labels };
    };
    assert.deepEqual(shown(source.json()), {
      Driver: "null",
      Scope: "local",
      ConfigOnly: true,
      ConfigFrom: { Network: "" },
      Config: [{ Subnet: "10.214.0.0/24" }],
      Labels: { a: "b" },
    });
    await ok("network", "create", "--config-from", "settings", "--scope", "global", "made");
    const made = await api.call("GET", "/networks/made");
    assert.deepEqual(shown(made.json()), {
      Driver: "bridge",
      Scope: "global",
      ConfigOnly: false,
      ConfigFrom: { Network: "settings" },
      Config: [{ Subnet: "10.214.0.0/24", Gateway: "10.214.0.1" }],
      Labels: { a: "b" },
    });
    const joined = await docker("run", "--network", "settings", "busybox", "true");
    assert.equal(joined.code, 125);
    assert.match(joined.errorText, /cannot create endpoint on configuration-only network/);
    const used = await docker("network", "rm", "settings");
    assert.match(used.errorText, /configuration network "settings" is in use/);
    assert.equal(await ok("run", "--rm", "--network", "made", "busybox", "echo", "joined"), "joined");
    await ok("network", "rm", "made");
    await ok("network", "rm", "settings");
  });

  test("without IPv4 is an accepted setting before its API version, and what a cloud does not apply", async () => {
    const body = { EnableIPv4: false };
    const old = await callApi(daemon.socket, "POST", "/v1.47/networks/create", {
      body: { Name: "old", ...body },
    });
    assert.equal(old.status, 201, old.text);
    const six = await api.call("POST", "/networks/create", { Name: "six", EnableIPv6: true, ...body });
    if (backendUnderTest() === "local") {
      assert.equal(six.status, 501);
      assert.deepEqual(six.json(), {
        message: "the local backend does not support networks without IPv4, IPv6 networks",
      });
    } else {
      const { Warning } = six.json() as { Warning: string };
      assert.equal(
        Warning,
        `the ${backendUnderTest()} backend does not apply networks without IPv4, IPv6 networks`,
      );
    }
  });

  test("refuses what cannot be, in Docker's words", async () => {
    await ok("network", "create", "taken");
    for (const [body, status, message] of [
      [{ Name: "taken" }, 409, "network with name taken already exists"],
      [{ Name: "bridge" }, 403, "operation is not permitted on predefined bridge network "],
      [{ Name: "default" }, 403, "operation is not permitted on predefined default network "],
      [{ Name: " " }, 400, "invalid name: name is empty"],
      [{ Name: "n", Driver: "host" }, 403, 'only one instance of "host" network is allowed'],
      [
        { Name: "n", IPAM: { Config: [{ Subnet: "10.0.0.1/8" }] } },
        400,
        "invalid network config:\ninvalid subnet 10.0.0.1/8: it should be 10.0.0.0/8",
      ],
      [{ Name: "n", Driver: "macvlan" }, 404, 'plugin "macvlan" not found'],
      [{ Name: "n", Ingress: true }, 403, "Ingress network can only be global scope network"],
      [{ Name: "n", Scope: "swarm" }, 403, "cannot create a swarm scoped network when swarm is not active"],
      [{ Name: "n", EnableIPv4: false }, 400, "IPv4 or IPv6 must be enabled"],
      [{ Name: "n", ConfigFrom: { Network: "taken" } }, 404, 'configuration network "taken" does not exist'],
    ] as const) {
      const refused = await api.call("POST", "/networks/create", body);
      assert.deepEqual([refused.status, refused.json()], [status, { message }]);
    }
    for (const name of ["bridge", "host", "none"]) {
      const refused = await api.call("DELETE", `/networks/${name}`);
      assert.equal(refused.status, 403);
      assert.deepEqual(refused.json(), { message: `${name} is a pre-defined network and cannot be removed` });
    }
    const absent = await docker("run", "--rm", "--network", "absent", "busybox", "true");
    assert.equal(absent.code, 125);
    assert.match(absent.errorText, /network absent not found/);
  });
});
