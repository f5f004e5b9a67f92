/** Agents that nobody can dial, the relay that they call, and proxies between the two. */
import "reflect-metadata";

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as connectTcp, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { WebSocket } from "ws";

import { containerIdHeader } from "../../src/agent-client/address.ts";
import { agentLog } from "../../src/agent-client/agent-log.ts";
import { AgentStream, type Outcome, type StreamFailure } from "../../src/agent-client/agent-stream.ts";
import { AgentConnection } from "../../src/agent-client/connection.ts";
import { encodeOpenExec, sessionStream } from "../../src/agent-client/session.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { TcpPort } from "../../src/backends/server/port/port.ts";
import { conflict, isErrorKind, unavailable } from "../../src/common/errors.ts";
import { newId } from "../../src/common/ids.ts";
import { readBackendReach } from "../../src/frontend/backend/transport.ts";
import { AgentTargets } from "../../src/frontend/streams/agent-targets.ts";
import { AgentEndpointSchema } from "../../src/gen/sockerless/backend/v1/endpoint_pb.ts";
import { makeCertificates } from "../support/certificates.ts";
import { listenHere } from "../support/listen-here.ts";
import { inSoak } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";
import { callbackScene, firstStart } from "./callback-scene.ts";
import { grpcStatus, HostileAgent } from "./hostile-agent.ts";

describe("agents that call", () => {
  const {
    startBackend,
    portOf,
    startProxy,
    startAgent,
    secretOf,
    finderOf,
    meet,
    clientOf,
    defer,
    directory,
  } = callbackScene();

  it("are met through a proxy that ends TLS and learns nothing, and again after every connection was cut", async () => {
    const backend = await startBackend();
    const proxy = await startProxy(backend);
    const containerId = newId();
    const secret = secretOf(backend, containerId);
    startAgent(backend, containerId, `${proxy.url}/base`, secret);
    const found = await meet(backend, containerId);
    const client = clientOf(backend, containerId, found);
    assert.equal((await client.hello({})).containerId, containerId);
    proxy.cut();
    await untilTrue(async () => {
      const answer = await client.hello({}).catch(() => undefined);
      return answer?.containerId === containerId;
    });
    assert.ok(proxy.seen().includes(containerId), "the path is for everybody to see");
    for (const value of Object.values(secret)) {
      assert.ok(!proxy.seen().includes(value));
    }
  });

  it("stay connected through a proxy that drops what is silent", inSoak, async () => {
    const backend = await startBackend();
    const idleMs = 15_000; // Pings of each second are not this late on a busy machine.
    const proxy = await startProxy(backend, idleMs);
    const containerId = newId();
    const ping = { SOCKERLESS_CALLBACK_PING: "1s" };
    startAgent(backend, containerId, proxy.url, { ...secretOf(backend, containerId), ...ping });
    const found = await meet(backend, containerId);
    // Those that wait, and one that is in use without a word.
    const watch = clientOf(backend, containerId, found).watch({})[Symbol.asyncIterator]();
    await watch.next();
    await untilTrue(() => proxy.oldestMs() > idleMs + 1_000);
    assert.equal(proxy.dropped(), 0);
  });

  it("are not taken for another's: neither with another secret nor with one that was used", async () => {
    const backend = await startBackend();
    const url = `https://127.0.0.1:${portOf(backend)}`;
    const containerId = newId();
    const { finder, warnings } = finderOf(backend);
    startAgent(backend, containerId, url, { SOCKERLESS_CALLBACK_SECRET: "a guess" });
    const met = finder.await(containerId, firstStart, AbortSignal.timeout(60_000));
    await until(() => warnings().find((line) => line.includes("does not have the secret")));
    const secret = secretOf(backend, containerId);
    startAgent(backend, containerId, url, secret);
    const found = await met;
    // The refused one tries again, and somebody has copied the secret meanwhile.
    startAgent(backend, containerId, url, secret);
    await until(() => backend.warnings().find((line) => line.includes("its agent is another")));
    const client = clientOf(backend, containerId, found);
    assert.equal((await client.hello({})).containerId, containerId);
    await assert.rejects(clientOf(backend, newId(), found).hello({}), /the agent has not called/);
  });

  it("are asked again where nobody could say whether their proof is good", async () => {
    const backend = await startBackend();
    const proxy = await startProxy(backend);
    const containerId = newId();
    startAgent(backend, containerId, proxy.url, secretOf(backend, containerId));
    let asked = 0;
    const { finder } = finderOf(backend, {
      async check({ client }) {
        await client.prove({});
        if (++asked < 3) {
          proxy.cut(); // So that nothing of it is there for a moment.
          throw unavailable("AWS does not answer");
        }
      },
    });
    await finder.await(containerId, firstStart, AbortSignal.timeout(60_000));
    assert.equal(asked, 3);
  });

  it("are gone once their connections were reset, those in use too", async () => {
    const backend = await startBackend();
    const containerId = newId();
    const way = createServer();
    const passed: Socket[] = [];
    way.on("connection", (agent) => {
      const there = connectTcp({ host: "127.0.0.1", port: portOf(backend) });
      passed.push(there);
      void pipeline(agent, there, agent).catch(() => {});
    });
    const port = await listenHere(way);
    defer(() => void way.close());
    const url = `https://127.0.0.1:${port}`;
    startAgent(backend, containerId, url, secretOf(backend, containerId));
    const found = await meet(backend, containerId);
    const watch = clientOf(backend, containerId, found).watch({})[Symbol.asyncIterator]();
    await watch.next();
    const isThere = async (): Promise<boolean> => {
      const enough = new AbortController();
      setImmediate(() => enough.abort());
      const first = backend.relay.callersOf(containerId, enough.signal).next();
      return await first.then(
        () => true,
        () => false,
      );
    };
    await untilTrue(isThere); // The next connection waits.
    way.close();
    for (const there of passed) {
      there.resetAndDestroy();
    }
    await assert.rejects(watch.next());
    await untilTrue(async () => !(await isThere()));
  });

  it("have their turn beside one that calls again and again", async () => {
    const backend = await startBackend();
    const url = `https://127.0.0.1:${portOf(backend)}`;
    const containerId = newId();
    const { relay } = backend;
    const callers = relay.callersOf(containerId, AbortSignal.timeout(60_000));
    startAgent(backend, containerId, url, secretOf(backend, containerId));
    const first = await callers.next();
    startAgent(backend, containerId, url, secretOf(backend, containerId));
    const second = await callers.next();
    const { finder } = finderOf(backend, {
      async check({ pin, client }) {
        await client.prove({});
        if (Buffer.from(pin).toString("hex") === first.value?.pin) {
          const again = relay.callersOf(containerId, AbortSignal.timeout(60_000));
          throw unavailable(`it does not prove itself, and ${(await again.next()).value?.pin} waits`);
        }
      },
    });
    const { pin } = await finder.await(containerId, firstStart, AbortSignal.timeout(120_000));
    assert.equal(Buffer.from(pin).toString("hex"), second.value?.pin);
  });

  it("are each met for its own task where two tasks of one container are there", async () => {
    const backend = await startBackend();
    const url = `https://127.0.0.1:${portOf(backend)}`;
    const containerId = newId();
    const callers = backend.relay.callersOf(containerId, AbortSignal.timeout(60_000));
    const pins: string[] = [];
    for (const _task of [1, 2]) {
      startAgent(backend, containerId, url, secretOf(backend, containerId));
      pins.push((await callers.next()).value?.pin ?? "");
    }
    const { finder } = finderOf(backend, {
      async check({ pin, client }, { task }) {
        await client.prove({});
        if (Buffer.from(pin).toString("hex") !== task) {
          throw conflict("it is another's");
        }
      },
    });
    const met = pins
      .toReversed()
      .map((task) => finder.meet(containerId, { ...firstStart, task }, AbortSignal.timeout(60_000)));
    const found = await Promise.all(met);
    assert.deepEqual(
      found.map(({ pin }) => Buffer.from(pin).toString("hex")),
      pins.toReversed(),
    );
  });

  it("are told apart by their backends", inSoak, async () => {
    const [one, other] = [await startBackend("one"), await startBackend("other")];
    const containerId = newId();
    // An ingress that has sent it to the wrong one.
    startAgent(one, containerId, `https://127.0.0.1:${portOf(other)}`, secretOf(one, containerId));
    await until(() => other.warnings().find((line) => line.includes("an agent of another sockerless")));
    const client = clientOf(one, containerId, { address: "", pin: new Uint8Array(32) });
    await assert.rejects(client.hello({}), /the agent has not called/);
  });

  it("reach others where the backend lets them, until it does not, and then may do little", async () => {
    const backend = await startBackend();
    const { relay, authority } = backend;
    const [own, other, third] = [newId(), newId(), newId()];
    startAgent(backend, other, `https://127.0.0.1:${portOf(backend)}`, secretOf(backend, other));
    const there = { containerId: other, pin: Buffer.from((await meet(backend, other)).pin).toString("hex") };
    const hostile = await HostileAgent.make(own);
    const instance = backend.instance;
    const call = (containerId: string, shown = hostile): Promise<WebSocket> =>
      shown.call(
        `wss://127.0.0.1:${portOf(backend)}/agents/${instance}/${own}/peers/${containerId}`,
        instance,
      );
    const isRefused = async (socket: WebSocket): Promise<void> => {
      const known = backend.warnings().length;
      await once(socket, "close");
      await until(() =>
        backend
          .warnings()
          .slice(known)
          .find((line) => line.includes("may not reach")),
      );
    };
    await isRefused(await call(other));
    relay.allow(own, { pin: hostile.pin, others: [there] });
    await isRefused(await call(third));
    await isRefused(await call(other, await HostileAgent.make(own))); // Another that claims to be that container.
    const { chain } = await authority.certifyPeer(other, hostile.publicKey);
    const session = await hostile.speak(await call(other), chain);
    assert.equal(await grpcStatus(session, "Hello"), Code.PermissionDenied);
    const others = await hostile.speak(
      await call(other),
      (await authority.certifyPeer(third, hostile.publicKey)).chain,
    );
    await assert.rejects(grpcStatus(others, "Hello"));
    const link = await call(other);
    const opened = once(link, "message").then(([frame]) =>
      assert.fail(`it has a link: ${frame.length} bytes`),
    );
    link.send(Buffer.concat([Buffer.from([1]), randomBytes(16), Buffer.alloc(8), Buffer.alloc(12)]));
    await Promise.race([
      opened,
      until(() => backend.warnings().find((line) => line.includes("speaks no TLS"))),
    ]);
    const cut = once(session, "close");
    relay.allow(own, { pin: hostile.pin, others: [] });
    await cut;
    await isRefused(await call(other));
  });

  /** The call of an agent that does as it likes. */
  const callOfHostile = async (backend: Awaited<ReturnType<typeof startBackend>>) => {
    const containerId = newId();
    const agent = await HostileAgent.make(containerId);
    const instance = backend.instance;
    const url = `wss://127.0.0.1:${portOf(backend)}/agents/${instance}/${containerId}`;
    const socket = await agent.call(url, instance);
    return { containerId, agent, socket };
  };

  it("hear that their client has left, whatever was on its way to it", async () => {
    const backend = await startBackend();
    const { containerId, agent, socket } = await callOfHostile(backend);
    const client = connectTcp({ path: backend.relay.path });
    client.write(`CONNECT ${containerId}:0 HTTP/1.1\r\nsockerless-agent-pin: ${agent.pin}\r\n\r\n`);
    await once(client, "data");
    client.pause();
    const begun = once(socket, "message");
    client.write(Buffer.of(1)); // No TLS, whose handshake would be limited.
    await begun;
    const chunk = Buffer.alloc(64 * 1024);
    for (let round = 0; round < 200; round++) {
      socket.send(chunk);
    }
    await untilTrue(() => client.readableLength > 0); // More is in the kernel, which resets the connection.
    client.destroy();
    const [code] = (await once(socket, "close")) as [number];
    assert.equal(code, 1005); // a close frame without a status; 1006 is a cut
  });

  it("hear that a frontend on another machine has left as the port that it came by is closed", async () => {
    const backend = await startBackend();
    const { containerId, agent, socket } = await callOfHostile(backend);
    const pin = Buffer.from(agent.pin, "hex");
    const { server, client } = await makeCertificates(directory());
    const port = await TcpPort.open({
      address: "tcp://127.0.0.1:0",
      files: server,
      path: join(directory(), "port.sock"),
      sockets: undefined,
      resolveAgent: async () => ({
        address: { kind: "called", path: backend.relay.path, pin },
        credentials: await backend.authority.credentialsFor(containerId),
        containerId,
      }),
      logger: capturedLogger().logger,
    });
    const reach = await readBackendReach(port.address.replace("tcp:", "https:"), client);
    const relayed = create(AgentEndpointSchema, { address: { case: "relay", value: {} }, containerId });
    const connection = new AgentConnection(new AgentTargets(reach).targetOf(relayed));
    const left = once(socket, "close");
    const opened = once(socket, "message"); // The link's.
    const call = connection.request("POST", "/sockerless.agent.v1.AgentService/Session", {
      [containerIdHeader]: containerId,
    });
    call.then(
      (stream) => stream.on("error", () => {}),
      () => {},
    );
    await opened;
    connection.close(); // Its port still waits for the agent.
    await port.close();
    const [code] = (await left) as [number];
    assert.equal(code, 1005);
  });

  /** Runs `cat` in a container whose link passes a proxy; what comes of it is collected. */
  const startEcho = async (env: Readonly<Record<string, string>> = {}, name = "one", prints = "true") => {
    const backend = await startBackend(name);
    const proxy = await startProxy(backend);
    const containerId = newId();
    const agent = startAgent(backend, containerId, proxy.url, { ...secretOf(backend, containerId), ...env });
    const { pin } = await meet(backend, containerId);
    const process = {
      args: ["cat"],
      user: "0:0",
      workingDir: "/",
      env: [`PATH=${globalThis.process.env["PATH"]}`],
    };
    const client = clientOf(backend, containerId, { address: "", pin });
    await client.start({
      generation: 1n,
      // Not longer than its agent, which is killed.
      process: { ...process, args: ["sh", "-c", `${prints}; while kill -0 $PPID; do sleep 0.2; done`] },
    });
    const credentials = await backend.authority.credentialsFor(containerId);
    const address = { kind: "called", path: backend.relay.path, pin } as const;
    const connection = new AgentConnection({ address, credentials, containerId }, { outlivesCuts: true });
    defer(() => connection.close());
    const received: Buffer[] = [];
    const over = Promise.withResolvers<Outcome | StreamFailure>();
    const first = encodeOpenExec({ execId: newId(), process, attachStdin: true, attachStdout: true });
    const stream = await AgentStream.open(
      connection,
      sessionStream,
      { containerId, first, carriesInput: true },
      {
        opened: () => {},
        data: (_channel, source, start, end) => received.push(Buffer.from(source.subarray(start, end))),
        outputEnded: () => {},
        ended: over.resolve,
        failed: over.resolve,
      },
    );
    const target = { address, credentials };
    return { proxy, agent, client, connection, stream, over: over.promise, received, target, containerId };
  };

  it("lose no byte to cuts, neither way", async () => {
    const { proxy, stream, over, received } = await startEcho();
    const sent = randomBytes(24 * 1024 * 1024);
    for (let start = 0; start < sent.length; start += 65_536) {
      await new Promise<void>((taken) => stream.sendInput(sent.subarray(start, start + 65_536), taken));
      if (start % (3 * 1024 * 1024) === 0) {
        proxy.cut();
      }
    }
    stream.endInput();
    assert.deepEqual(await over, { kind: "exit", exitCode: 0 });
    assert.ok(Buffer.concat(received).equals(sent));
  });

  it("have their log taken whole although their link is cut meanwhile", async () => {
    const printed = 3 * 1024 * 1024;
    const { proxy, target, containerId } = await startEcho({}, "one", `head -c ${printed} /dev/zero`);
    const taken = async (onFirst: () => void): Promise<number> => {
      let bytes = 0;
      for await (const { data } of agentLog(
        target,
        containerId,
        { records: true },
        AbortSignal.timeout(60_000),
      )) {
        if (bytes === 0) {
          onFirst();
        }
        bytes += data.length;
      }
      return bytes;
    };
    await untilTrue(async () => (await taken(() => {})) > printed);
    assert.ok((await taken(() => proxy.cut())) > printed);
  });

  it(
    "leave once they are reached again, where their client has left while it was cut off",
    inSoak,
    async () => {
      const long = {
        SOCKERLESS_CALLBACK_RESUME: "1h",
        SOCKERLESS_LINGER: "0s",
        SOCKERLESS_DRAIN_TIMEOUT: "1s",
      };
      const { proxy, agent, client, stream, over } = await startEcho(long);
      stream.endInput();
      assert.deepEqual(await over, { kind: "exit", exitCode: 0 });
      proxy.setOpen(false);
      proxy.cut(); // Nobody waits for the connection to go on, as no stream is open.
      proxy.setOpen(true);
      await untilTrue(async () => {
        await client.signal({ signal: 9 }).catch(() => {}); // It may not have called again yet.
        return agent.hasEnded();
      });
    },
  );

  it("are given up, and never taken for ended, after a cut beyond the limit", async () => {
    const resume = { SOCKERLESS_CALLBACK_RESUME: "500ms" };
    const { proxy, agent, stream, over } = await startEcho(resume);
    proxy.setOpen(false);
    proxy.cut();
    await untilTrue(() => agent.said().includes("cut for too long"));
    stream.endInput(); // The process has ended with its connection, as far as anybody can tell.
    proxy.setOpen(true);
    const failure = await over;
    assert.equal(failure.kind, "unavailable");
    assert.match("message" in failure ? failure.message : "", /the connection to the agent was cut/);
  });

  it(
    "go on after a connection on which nothing passes any more, or fail beyond the limit, though nobody says that it is gone",
    inSoak,
    async () => {
      const ping = { SOCKERLESS_CALLBACK_PING: "2s" };
      const goOn = async (): Promise<void> => {
        const { proxy, stream, over, received } = await startEcho(ping);
        const sent = randomBytes(8 * 1024 * 1024);
        for (let start = 0; start < sent.length; start += 65_536) {
          await new Promise<void>((taken) => stream.sendInput(sent.subarray(start, start + 65_536), taken));
          if (start === 2 * 1024 * 1024) {
            proxy.stall();
          }
        }
        stream.endInput();
        assert.deepEqual(await over, { kind: "exit", exitCode: 0 });
        assert.ok(Buffer.concat(received).equals(sent));
      };
      const fail = async (): Promise<void> => {
        const { proxy, agent, stream, over } = await startEcho(
          { ...ping, SOCKERLESS_CALLBACK_RESUME: "1s" },
          "other",
        );
        proxy.stall();
        await untilTrue(() => agent.said().includes("cut for too long"));
        stream.endInput();
        const failure = await over;
        assert.equal(failure.kind, "unavailable");
        // On a busy machine the client may reach its limit of silence before the agent, on a new connection, has given up the old.
        assert.match(
          "message" in failure ? failure.message : "",
          /the connection to the agent was cut|the agent was silent/,
        );
      };
      await Promise.all([goOn(), fail()]);
    },
  );

  it("do not wait for a relay that was closed", async () => {
    const backend = await startBackend();
    const met = assert.rejects(meet(backend, newId()), (error) => isErrorKind(error, "unavailable"));
    await backend.relay.close();
    await met;
  });
});
