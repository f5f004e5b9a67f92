/** Options of networks and endpoints, as Docker's bridge driver has them, through the real docker CLI. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { afterEach, describe, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import { runCommand } from "../support/command.ts";
import { callApi } from "../support/call-api.ts";
import { recordName } from "../support/made.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, inspect } = withDaemon();
const inside = (container: string, ...command: string[]) => ok("exec", container, ...command);
const onBridges = { skip: onlyOn("local", "the interfaces and networks of tasks are the platform's") };

/** A container that sleeps. */
const sleeping = (name: string, ...flags: string[]) =>
  ok("run", "-d", "--init", "--name", name, ...flags, "busybox", "sleep", "1000");

/** A program that tells two clients their addresses. */
const tellsPeers = `
import socket
server = socket.create_server(("", 80))
print("ready", flush=True)
for _ in range(2):
    client, address = server.accept()
    client.sendall(address[0].encode())
    client.close()
`;
import { inSoak } from "../support/soak.ts";

/** The address of an interface of a container; undefined: there is none of that name. */
async function addressOf(container: string, name: string): Promise<string | undefined> {
  const { text } = await docker("exec", container, "ip", "-o", "-4", "address", "show", name);
  return /inet (\S+)/.exec(text)?.[1];
}

/** The names of the interfaces of a container, but for loopback. */
async function interfacesOf(container: string): Promise<string[]> {
  const links = (await inside(container, "ip", "-o", "link")).split("\n");
  return links
    .map((line) => /^\d+: ([^@:]+)/.exec(line)?.[1] ?? "")
    .filter((name) => !["", "lo"].includes(name));
}

/** True if the machine has an interface of this name. */
const isThere = (name: string) => existsSync(`/sys/class/net/${name}`);
const mtuOf = (name: string) => readFileSync(`/sys/class/net/${name}/mtu`, "utf8").trim();

afterEach(async () => {
  const containers = (await ok("ps", "--all", "--quiet")).split("\n").filter((id) => id !== "");
  if (containers.length > 0) {
    await ok("rm", "--force", ...containers);
  }
  await ok("network", "prune", "--force");
});

const named = (network: string, name: string) =>
  `name=${network},driver-opt=com.docker.network.endpoint.ifname=${name}`;

describe("an endpoint", onBridges, () => {
  test(
    "has the interface's name that was asked for, others are named around it, also over a restart",
    inSoak,
    async () => {
      await ok("network", "create", "--subnet", "10.217.0.0/24", "first");
      await ok("network", "create", "--subnet", "10.217.1.0/24", "second");
      await ok("network", "create", "--subnet", "10.217.2.0/24", "third");
      await sleeping("box", "--network", named("first", "eth1"), "--network", "second");
      const both = async () => [await addressOf("box", "eth0"), await addressOf("box", "eth1")];
      assert.deepEqual(await both(), ["10.217.1.2/24", "10.217.0.2/24"]);
      await ok("network", "connect", "third", "box");
      assert.equal(await addressOf("box", "eth2"), "10.217.2.2/24");
      await daemon.shutDown();
      await daemon.launch();
      assert.deepEqual(new Set(await interfacesOf("box")), new Set(["eth0", "eth1", "eth2"]));
      await ok("network", "disconnect", "second", "box");
      await ok("network", "disconnect", "third", "box");
      await ok("network", "connect", "third", "box");
      assert.deepEqual(await both(), ["10.217.2.2/24", "10.217.0.2/24"]);
      await ok("restart", "--time", "0", "box");
      assert.deepEqual(await both(), ["10.217.2.2/24", "10.217.0.2/24"]);
    },
  );

  test("cannot have the name of another one", async () => {
    await ok("network", "create", "other");
    await sleeping("box");
    const { code, errorText } = await docker(
      ...["network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=eth0", "other", "box"],
    );
    assert.equal(code, 1);
    assert.match(errorText, /error renaming interface ".*" to "eth0": file exists/);
    assert.deepEqual(await interfacesOf("box"), ["eth0"]);
  });

  test("has its sysctls; those of anything else are refused", async () => {
    const option = (sysctls: string) =>
      `name=bridge,"driver-opt=com.docker.network.endpoint.sysctls=${sysctls}"`;
    const sysctls = "net.ipv4.conf.IFNAME.forwarding=0,net.ipv4.conf.IFNAME.log_martians=1";
    await sleeping("box", "--network", option(sysctls));
    assert.equal(await inside("box", "sysctl", "-n", "net.ipv4.conf.eth0.forwarding"), "0");
    assert.equal(await inside("box", "sysctl", "-n", "net.ipv4.conf.eth0.log_martians"), "1");
    for (const [wrong, message] of [
      ["net.ipv4.conf.eth0.forwarding=0", /unrecognised network interface sysctl 'net\.ipv4\.conf\.eth0/],
      ["net.ipv4.conf.IFNAME.nothing=0", /net\/ipv4\/conf\/eth0\/nothing is not a sysctl file/],
      ["net.ipv4.conf.IFNAME.../../../../kernel/hostname=x", /unrecognised network interface sysctl/],
    ] as const) {
      const { code, errorText } = await docker("run", "--rm", "--network", option(wrong), "busybox", "true");
      assert.equal(code, 125);
      assert.match(errorText, message);
    }
  });

  test(
    "shows a configured MAC address before its container starts, and has it at every start",
    inSoak,
    async () => {
      const mac = "02:42:ac:11:00:42";
      await ok("create", "--name", "box", "--mac-address", mac, "busybox", "sleep", "1000");
      const shown = () => inspect("box", "{{.NetworkSettings.Networks.bridge.MacAddress}}");
      assert.equal(await shown(), mac);
      for (const verb of ["start", "restart"]) {
        await ok(verb, "box");
        assert.equal(await shown(), mac);
        assert.match(await inside("box", "ip", "link", "show", "eth0"), new RegExp(mac));
      }
    },
  );
});

describe("a network", onBridges, () => {
  test("has the bridge, the MTU and the names of interfaces that its options say", async () => {
    const bridge = recordName(`skb${process.pid}`);
    const id = await ok("network", "create", "plain");
    assert.ok(isThere(`br-${id.slice(0, 12)}`));
    await ok(
      ...["network", "create", "-o", `com.docker.network.bridge.name=${bridge}`],
      ...[
        "-o",
        "com.docker.network.driver.mtu=1234",
        "-o",
        "com.docker.network.container_iface_prefix=net",
        "sized",
      ],
    );
    assert.equal(mtuOf(bridge), "1234");
    await sleeping("box", "--network", "sized");
    assert.match(await inside("box", "ip", "link", "show", "net0"), / mtu 1234 /);
    const { errorText } = await docker(
      ...["network", "create", "-o", `com.docker.network.bridge.name=${bridge}`, "again"],
    );
    assert.match(errorText, /conflicts with network \w{64} \(sized\): networks have same bridge name/);
    const taken = await docker("network", "create", "-o", "com.docker.network.bridge.name=lo", "loopback");
    assert.match(taken.errorText, /existing interface lo is not a bridge/);
    await ok("rm", "--force", "box");
    await ok("network", "rm", "sized");
    assert.ok(!isThere(bridge));
  });

  test("keeps its containers from each other with enable_icc=false", async () => {
    await ok("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart");
    await sleeping("one", "--network", "apart");
    await sleeping("two", "--network", "apart");
    const ping = (target: string, seconds: number) =>
      docker("exec", "one", "ping", "-c1", `-W${seconds}`, target);
    assert.equal((await ping("two", 2)).code, 1);
    const gateway = await ok("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "apart");
    assert.equal((await ping(gateway, 60)).code, 0);
  });

  test("of two addresses is enough for two containers where the machine has none there", async () => {
    for (const option of ["bridge.gateway_mode_ipv4=isolated", "bridge.inhibit_ipv4=true"]) {
      await ok(
        ...["network", "create", "--internal", "--subnet", "10.217.9.0/31"],
        ...["-o", `com.docker.network.${option}`, "pair"],
      );
      await sleeping("one", "--network", "pair");
      await ok("run", "--rm", "--network", "pair", "busybox", "ping", "-c1", "-W60", "one");
      await ok("rm", "--force", "one");
      await ok("network", "rm", "pair");
    }
  });

  test("says where ports are bound that name no address", async () => {
    await ok("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "bound");
    await sleeping("box", "--network", "bound", "-p", "80");
    const ports = await inspect(
      "box",
      "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}",
    );
    assert.equal(ports.trim(), "127.0.0.1");
  });

  test("leaves the machine with the address that host_ipv4 says", async () => {
    const outside = recordName(`skl-out-${process.pid}`);
    const leg = recordName(`skt${process.pid}`);
    const between = `198.18.${process.pid % 256}`; // Another clone's test may run beside.
    const ip = async (...args: string[]) => {
      const { code, errorText } = await runCommand("ip", args);
      assert.equal(code, 0, errorText);
    };
    await ip("netns", "add", outside);
    let seen: ChildProcess | undefined;
    try {
      await ip("link", "add", leg, "type", "veth", "peer", "name", "out", "netns", outside);
      await ip("address", "add", `${between}.1/24`, "dev", leg);
      await ip("address", "add", `${between}.7/24`, "dev", leg);
      await ip("link", "set", leg, "up");
      await ip("-netns", outside, "address", "add", `${between}.2/24`, "dev", "out");
      await ip("-netns", outside, "link", "set", "out", "up");
      await ok("network", "create", "-o", `com.docker.network.host_ipv4=${between}.7`, "translated");
      seen = spawn("ip", ["netns", "exec", outside, "python3", "-c", tellsPeers]);
      assert.ok(seen.stdout);
      await once(seen.stdout, "data");
      const asks = (network: string) =>
        ok("run", "--rm", "--network", network, "busybox", "nc", "-w", "5", `${between}.2`, "80");
      assert.deepEqual([await asks("translated"), await asks("bridge")], [`${between}.7`, `${between}.1`]);
    } finally {
      seen?.kill("SIGKILL");
      await ip("netns", "delete", outside);
    }
  });

  test("that is internal publishes nothing", async () => {
    await ok("network", "create", "--internal", "shut");
    await sleeping("box", "--network", "shut", "-p", "127.0.0.1::80");
    assert.equal(await inspect("box", "{{json .NetworkSettings.Ports}}"), '{"80/tcp":null}');
    assert.equal(await ok("port", "box"), "");
  });

  test("refuses options that say nothing, in Docker's words, and those that are not built, by name", async () => {
    const create = async (option: string, value: string, internal = false) => {
      const body = {
        Name: "refused",
        Internal: internal,
        Options: { [`com.docker.network.${option}`]: value },
      };
      const answer = await callApi(daemon.socket, "POST", "/networks/create", { body });
      return [answer.status, (answer.json() as { readonly message: string }).message];
    };
    const failed = (option: string, value: string, why: string) => [
      400,
      `failed to parse com.docker.network.${option} value: ${value} (${why})`,
    ];
    for (const [option, value, why] of [
      ["driver.mtu", "big", 'strconv.Atoi: parsing "big": invalid syntax'],
      ["bridge.enable_icc", "maybe", 'strconv.ParseBool: parsing "maybe": invalid syntax'],
      ["host_ipv4", "here", "nil ip"],
      ["bridge.gateway_mode_ipv4", "open", "unknown gateway mode open"],
    ] as const) {
      assert.deepEqual(await create(option, value), failed(option, value, why));
    }
    assert.deepEqual(await create("bridge.gateway_mode_ipv4", "isolated"), [
      500,
      "gateway mode 'isolated' can only be used for an internal network",
    ]);
    assert.deepEqual(await create("bridge.gateway_mode_ipv4", "routed"), [
      501,
      "the local backend does not support the network option com.docker.network.bridge.gateway_mode_ipv4=routed",
    ]);
  });
});

test(
  "a container finds itself by the name before the dot, and the machine by host-gateway",
  onBridges,
  async () => {
    const hosts = async (...flags: string[]) =>
      ok(
        ...["run", "--rm", "-h", "foo.example.com", "--add-host=up:host-gateway", ...flags, "busybox", "cat"],
        "/etc/hosts",
      );
    assert.match(await hosts(), /^(172|192)\.\d+\.\d+\.\d+\tfoo\.example\.com foo$/m);
    await ok("network", "create", "--internal", "--subnet", "10.217.5.0/24", "shut");
    assert.match(await hosts("--network", "shut"), /^10\.217\.5\.1\tup$/m);
  },
);

test("docker info tells what keeps networks apart", onBridges, async () => {
  const info = async (version: string) => {
    const answer = await callApi(daemon.socket, "GET", `${version}/info`);
    return (answer.json() as { readonly FirewallBackend?: unknown }).FirewallBackend;
  };
  assert.deepEqual(await info("/v1.49"), { Driver: "nftables" });
  assert.equal(await info("/v1.48"), undefined);
});
