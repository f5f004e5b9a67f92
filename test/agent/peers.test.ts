/** Containers that nobody reaches, on networks: an engine, its relay, and agents that call it. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentAddress } from "../../src/agent-client/address.ts";
import { secretProof } from "../../src/backends/cloud/agents/agent-proof.ts";
import { calledAgents } from "../../src/backends/cloud/agents/called-agents.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { Relay } from "../../src/backends/cloud/callback/relay.ts";
import { instanceOf } from "../../src/backends/cloud/authority/instance.ts";
import { createSealer } from "../../src/backends/cloud/authority/seal.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import type { Driver } from "../../src/backends/driver/driver.ts";
import type { FoundWorkload } from "../../src/backends/driver/workloads.ts";
import { systemClock } from "../../src/common/clock.ts";
import type { HostConfigSchema } from "../../src/gen/sockerless/backend/v1/config_pb.ts";
import { EngineBench } from "../contract/engine-bench.ts";
import { until } from "../support/until.ts";
import { pinText } from "./init-agent.ts";
import { interfaceAddress, LoneContainer, type NetworkGuest, openGate } from "./lone-containers.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("containers on a network that do not reach one another", () => {
  let resources: AsyncDisposableStack;
  let bench: EngineBench;
  let relay: Relay;
  const containers = new Map<string, LoneContainer>();

  before(async () => {
    resources = new AsyncDisposableStack();
    const directory = scratchDirectory();
    const key = await readAuthority(join(directory, "ca.pem"));
    const authority = await createAuthority(key, systemClock);
    const sealer = createSealer(key.secret);
    const { logger } = capturedLogger();
    relay = resources.use(
      await Relay.start({
        listen: "tcp://127.0.0.1:0",
        path: join(directory, "agents.sock"),
        instance: instanceOf(authority).replace("sockerless/", ""),
        callKey: sealer.callKey,
        logger,
      }),
    );
    const gate = join(directory, "gate.sock");
    resources.use(await openGate(gate, Number(new URL(relay.address).port)));
    const finder = calledAgents({
      relay,
      authority,
      proof: secretProof((containerId) => sealer.callbackSecret(containerId, 1n)),
      url: "https://backend",
      reachOneAnother: false,
      clock: systemClock,
      logger,
    });
    bench = await EngineBench.start({ cloud: true });
    resources.defer(async () => {
      await bench.close();
      await Promise.all([...containers.values()].map((container) => container[Symbol.asyncDispose]()));
    });
    const { machine } = bench;
    const inMemory = machine.driver.bind(machine);
    let started = 0;
    const met = new Map<string, Pick<FoundWorkload, "agent" | "generation">>();
    machine.driver = (): Driver => {
      const driver = inMemory();
      const { site } = driver;
      assert.ok(site.kind === "remote");
      const withAgent = (each: FoundWorkload): FoundWorkload => ({ ...each, ...met.get(each.containerId) });
      const withAgents = (listed: readonly FoundWorkload[]): FoundWorkload[] => listed.map(withAgent);
      return {
        ...driver,
        site: { ...site, known: () => withAgents(site.known()) },
        traffic: finder.traffic,
        agentReach: finder.agentReach,
        authority,
        workloads: {
          ...driver.workloads,
          list: async () => withAgents(await driver.workloads.list()),
          async find(containerId) {
            const found = await driver.workloads.find(containerId);
            return found && withAgent(found);
          },
          async launch({ record: { id, generation } }, signal, progress) {
            const home = join(directory, String(++started));
            await mkdir(home);
            await containers.get(id)?.[Symbol.asyncDispose]();
            const container = await LoneContainer.start(home, gate, {
              SOCKERLESS_CONTAINER_ID: id,
              SOCKERLESS_CLIENT_CA_PIN: pinText(authority.pin),
              SOCKERLESS_CALLBACK_SECRET: sealer.callbackSecret(id, 1n),
              SOCKERLESS_CALLBACK_TOKEN: sealer.callToken(id, generation),
            });
            containers.set(id, container);
            const found = await finder.await(
              id,
              { task: id, address: id, launchGeneration: generation },
              signal,
            );
            const agent: AgentAddress = finder.addressOf(found);
            met.set(id, { agent, generation });
            const launched = { agent, boundPorts: [], reference: "", address: "" };
            await progress.reached(launched);
            return launched;
          },
          async release(containerId) {
            met.delete(containerId);
            await containers.get(containerId)?.[Symbol.asyncDispose]();
            await driver.workloads.release(containerId);
          },
        },
      };
    };
    await bench.stopBackend();
    await bench.startBackend();
  });
  after(() => resources.disposeAsync());

  const members = new Map<string, { readonly id: string; readonly guest: NetworkGuest }>();
  const run = async (
    name: string,
    networkMode: string,
    hostConfig: MessageInitShape<typeof HostConfigSchema> = { networkMode },
  ): Promise<{ id: string; guest: NetworkGuest }> => {
    const id = await bench.runScript("exec sleep 600", { name, hostConfig });
    const container = containers.get(id);
    assert.ok(container !== undefined);
    const member = { id, guest: container.enter() };
    members.set(name, member);
    return member;
  };
  const member = (name: string): { readonly id: string; readonly guest: NetworkGuest } => {
    const found = members.get(name);
    assert.ok(found !== undefined);
    return found;
  };
  const inside = (name: string): NetworkGuest => member(name).guest;
  const idOf = (name: string): string => member(name).id;

  /** Lines that a server of another container answers, once its port is there. */
  const talk = (from: NetworkGuest, name: string, port: number): Promise<string[]> =>
    until(() => from.ask("talk", name, port, "hello").catch(() => undefined));
  const answer = [`from ${interfaceAddress}`, "hello"];

  it("find each other by name, whoever of them starts first", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const first = await run("first", "net");
    await assert.rejects(first.guest.ask("resolve", "server"), /SERVFAIL/);
    const server = await run("server", "net");
    await server.guest.ask("serve", "0.0.0.0", 5432);
    const second = await run("second", "net");
    // A server sees no client that is local.
    assert.deepEqual(await talk(first.guest, "server", 5432), answer);
    assert.deepEqual(await talk(second.guest, "server", 5432), answer);
    assert.deepEqual(await talk(second.guest, "server.net", 5432), answer);
    assert.deepEqual(await first.guest.ask("resolve", "first"), [interfaceAddress]);
  });

  it("reach a port that is listened on after its container's name was asked for, until it is not any more", async () => {
    const [client, server] = [inside("first"), inside("server")];
    await client.ask("resolve", "server");
    await assert.rejects(client.ask("talk", "server", 5433, "hello"), /ECONNREFUSED/);
    await server.ask("serve", "0.0.0.0", 5433);
    assert.deepEqual(await talk(client, "server", 5433), answer);
    await server.ask("leave", 5433);
    await until(() =>
      client.ask("talk", "server", 5433, "hello").then(
        () => undefined,
        ({ message }) => /ECONNREFUSED/.exec(message),
      ),
    );
  });

  it("do not reach what is listened on at another's loopback", async () => {
    const [client, server] = [inside("first"), inside("server")];
    await server.ask("serve", "127.0.0.1", 6000);
    await server.ask("serve", "0.0.0.0", 6001);
    await talk(client, "server", 6001); // So the other port would be there, too.
    await assert.rejects(client.ask("talk", "server", 6000, "hello"), /ECONNREFUSED/);
  });

  it("share a network, whose loopback those on the network do not reach", async () => {
    const { id, guest } = await run("sharer", `container:${idOf("first")}`);
    await inside("first").ask("serve", "127.0.0.1", 6100);
    assert.deepEqual(await talk(guest, "127.0.0.1", 6100), ["from 127.0.0.1", "hello"]);
    await guest.ask("serve", "0.0.0.0", 6101);
    assert.deepEqual(await talk(inside("first"), "127.0.0.1", 6101), ["from 127.0.0.1", "hello"]);
    await assert.rejects(inside("second").ask("talk", "first", 6100, "hello"), /ECONNREFUSED/);
    await bench.containers.killContainer({ container: id, signal: "KILL" });
    await until(() =>
      inside("first")
        .ask("talk", "127.0.0.1", 6101, "hello")
        .then(() => undefined, String),
    );
  });

  it("lose no byte of what is more than all windows", async () => {
    await inside("first").ask("bulk", "server", 5432, 12 * 1024 * 1024);
  });

  it("exchange datagrams, each client for itself", async () => {
    const [client, server] = [inside("first"), inside("server")];
    await server.ask("serveDatagrams", "0.0.0.0", 5353);
    const texts = ["one", "two", "three"];
    const answers = await Promise.all(texts.map((text) => client.ask("exchange", "server", 5353, text)));
    assert.deepEqual(
      answers,
      texts.map((text) => `from ${interfaceAddress}: ${text}`),
    );
  });

  it("keep ports that they bind themselves", async () => {
    const server = inside("server");
    const hostConfig = { networkMode: "net", portBindings: [{ containerPort: "7001/tcp" }] };
    const { guest } = await run("binds", "net", hostConfig);
    for (const port of [7000, 7001, 7002, 7003]) {
      await server.ask("serve", "0.0.0.0", port);
    }
    assert.deepEqual(await talk(inside("first"), "server", 7003), answer); // All of them are told.
    // One that it has before it asks for others, which was there before.
    await guest.ask("serve", "0.0.0.0", 7000);
    assert.deepEqual(await talk(guest, "server", 7003), answer);
    assert.deepEqual(await talk(guest, "127.0.0.1", 7000), ["from 127.0.0.1", "hello"]);
    await assert.rejects(guest.ask("serve", "0.0.0.0", 7002), /EADDRINUSE/);
    // One that it publishes, whenever it binds that.
    await guest.ask("serve", "0.0.0.0", 7001);
  });

  it("leave and join networks at once, with the connections that are open", async () => {
    const server = idOf("server");
    const client = inside("first");
    const [address = ""] = await client.ask("resolve", "server");
    await client.ask("hold", "server", 5432);
    const isLost = client.ask("lost");
    await bench.networks.disconnectNetwork({ network: "net", container: server });
    await isLost;
    await assert.rejects(client.ask("resolve", "server"), /SERVFAIL/);
    await until(() => client.ask("talk", address, 5432, "hello").then(() => undefined, String));
    await bench.networks.connectNetwork({ network: "net", container: server });
    assert.deepEqual(await talk(client, "server", 5432), answer);
  });

  it("are apart on two networks, and meet on a third", async () => {
    await bench.networks.createNetwork({ name: "other" });
    const { id, guest } = await run("stranger", "other");
    const [address = ""] = await inside("first").ask("resolve", "server");
    await assert.rejects(guest.ask("resolve", "server"), /SERVFAIL/);
    await assert.rejects(guest.ask("talk", address, 5432, "hello"), /ECONNREFUSED/);
    await bench.networks.createNetwork({ name: "third" });
    for (const container of [id, idOf("server")]) {
      await bench.networks.connectNetwork({ network: "third", container });
    }
    assert.deepEqual(await talk(guest, "server", 5432), answer);
    await assert.rejects(guest.ask("resolve", "first"), /SERVFAIL/);
  });

  it("lose a link at once with the bridge, whichever of them leaves it", async () => {
    const target = await run("target", "bridge");
    await target.guest.ask("serve", "0.0.0.0", 5440);
    const linker = await run("linker", "bridge", { networkMode: "bridge", links: ["target"] });
    const { container } = await bench.containers.inspectContainer({ container: target.id });
    const address = container?.networkSettings?.networks["bridge"]?.ipAddress.replace(/^172/, "127") ?? "";
    for (const left of [linker.id, target.id]) {
      assert.deepEqual(await talk(linker.guest, address, 5440), answer);
      await linker.guest.ask("hold", address, 5440);
      const isLost = linker.guest.ask("lost");
      await bench.networks.disconnectNetwork({ network: "bridge", container: left });
      await isLost;
      await until(() => linker.guest.ask("talk", address, 5440, "hello").then(() => undefined, String));
      await bench.networks.connectNetwork({ network: "bridge", container: left });
    }
  });

  it("do not reach one another where their network keeps them apart", async () => {
    await bench.networks.createNetwork({
      name: "isolating",
      options: { "com.docker.network.bridge.enable_icc": "false" },
    });
    const [one, other] = [await run("one", "isolating"), await run("other", "isolating")];
    await other.guest.ask("serve", "0.0.0.0", 5432);
    await assert.rejects(one.guest.ask("talk", "other", 5432, "hello"), /ECONNREFUSED/);
  });

  it("go on where a backend goes that has let them", async () => {
    const client = inside("first");
    await client.ask("hold", "server", 5432);
    let isLost = false;
    void client.ask("lost").then(() => {
      isLost = true;
    });
    await bench.stopBackend();
    await bench.startBackend();
    const late = await run("late", "net");
    assert.deepEqual(await talk(late.guest, "server", 5432), answer);
    assert.deepEqual(await talk(client, "server", 5432), answer);
    assert.ok(!isLost);
  });

  it("are lost with the container that they lead to", async () => {
    const client = inside("first");
    await client.ask("hold", "server", 5432);
    const isLost = client.ask("lost");
    await bench.containers.killContainer({ container: idOf("server"), signal: "KILL" });
    await isLost;
    await until(() => client.ask("resolve", "server").then(() => undefined, String));
  });
});
