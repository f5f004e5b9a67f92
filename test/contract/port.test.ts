/** A backend's TCP port: who is let in, and that bulk streams pass the thread that owns the state by. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect as connectHttp2, createServer, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { connect as connectTls } from "node:tls";
import { Worker } from "node:worker_threads";

import { create } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";

import { containerIdHeader } from "../../src/agent-client/address.ts";
import { AgentConnection } from "../../src/agent-client/connection.ts";
import { type BackendServer, serveBackend } from "../../src/backends/server/server.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import type { TlsFiles } from "../../src/common/config/load.ts";
import { conflict } from "../../src/common/errors.ts";
import { newId } from "../../src/common/ids.ts";
import { AgentTargets } from "../../src/frontend/streams/agent-targets.ts";
import { readBackendReach } from "../../src/frontend/backend/transport.ts";
import {
  GetCapabilitiesResponseSchema,
  SystemService,
} from "../../src/gen/sockerless/backend/v1/system_pb.ts";
import { AgentEndpointSchema } from "../../src/gen/sockerless/backend/v1/endpoint_pb.ts";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { until } from "../support/until.ts";
import type { PortCaller } from "./port-caller.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The test fails when the bytes have not passed by then. */
const passedWithinMs = 120_000;

describe("a backend's TCP port", () => {
  const containerId = newId();
  const nearId = newId();
  const asked: string[] = [];
  const { logger, lines, warnings } = capturedLogger();
  const directory = scratchDirectory();
  let certificates: TestCertificates;
  let strange: TestCertificates;
  let agent: string;
  let nearAgent: string;
  let backend: BackendServer;
  let port: number;

  before(async () => {
    certificates = await makeCertificates(directory);
    await mkdir(join(directory, "strange"));
    strange = await makeCertificates(join(directory, "strange"));
    agent = join(directory, "agent.sock");
    nearAgent = join(directory, "near.sock");
    backend = await serveBackend({
      address: "tcp://127.0.0.1:0",
      tls: certificates.server,
      runDir: directory,
      logger,
      register: (router) =>
        router.service(SystemService, {
          getCapabilities: () => create(GetCapabilitiesResponseSchema, { backend: "local" }),
          getInfo: () => {
            throw conflict("the engine is busy");
          },
        }),
      resolveAgent: async (id) => {
        asked.push(id);
        const path = { [containerId]: agent, [nearId]: nearAgent }[id];
        return path === undefined ? undefined : { address: { kind: "unix", path }, containerId: id };
      },
    });
    port = Number(new URL(backend.address).port);
  });
  after(() => backend.close());

  const pemOf = async ({ ca, cert, key }: TlsFiles) => ({
    ca: await readFile(ca),
    cert: await readFile(cert),
    key: await readFile(key),
  });

  /** The outcome of a call to the agent: the status of gRPC, or why there is none. */
  const callAgent = async (tls: object): Promise<string> => {
    const socket = connectTls({ host: "127.0.0.1", port, ALPNProtocols: ["h2"], ...tls });
    const session = connectHttp2("https://backend", { createConnection: () => socket });
    try {
      return await new Promise((resolve) => {
        session.once("error", (error) => resolve(String(error)));
        session.once("close", () => resolve("closed"));
        socket.once("error", (error) => resolve(String(error))); // A session is not told of TLS alerts.
        session
          .request({
            ":method": "POST",
            ":path": "/sockerless.agent.v1.AgentService/Logs",
            [containerIdHeader]: "f".repeat(64),
          })
          .on("response", ({ "grpc-status": status }) => resolve(`status ${String(status)}`))
          .on("error", () => {})
          .end();
      });
    } finally {
      session.destroy();
    }
  };

  it("has bytes of an agent's stream pass while the thread that owns the state does nothing at all", async () => {
    const done = new Int32Array(new SharedArrayBuffer(4));
    const workerData: PortCaller = { agent, containerId, done };
    const caller = new Worker(new URL("./port-caller.js", import.meta.url), { workerData });
    await once(caller, "message"); // The agent listens.
    caller.postMessage(await readBackendReach(`https://127.0.0.1:${port}`, certificates.client));
    await once(caller, "message"); // The stream is open.
    const outcome = Atomics.wait(done, 0, 0, passedWithinMs);
    await caller.terminate();
    assert.notEqual(outcome, "timed-out");
    assert.equal(done[0], 1);
  });

  it("ends streams that are cut with an error, and has the next ones on another connection", async () => {
    const near = createServer();
    near.on("stream", (stream: ServerHttp2Stream) => {
      stream.on("error", () => {});
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.pipe(stream);
    });
    near.listen(nearAgent);
    await once(near, "listening");
    const cuts: (() => void)[] = [];
    const cable = createTcpServer((socket) => {
      const onward = connect(port, "127.0.0.1");
      socket.on("error", () => {}).pipe(onward);
      onward.on("error", () => {}).pipe(socket);
      cuts.push(() => socket.destroy() && onward.destroy());
    }).listen(0, "127.0.0.1");
    await once(cable, "listening");
    const { port: cablePort } = cable.address() as AddressInfo;
    const reach = await readBackendReach(`https://127.0.0.1:${cablePort}`, certificates.client);
    const connection = new AgentConnection(
      new AgentTargets(reach).targetOf(
        create(AgentEndpointSchema, { address: { case: "relay", value: {} }, containerId: nearId }),
      ),
    );
    const headers = { "content-type": "application/grpc", te: "trailers", [containerIdHeader]: nearId };
    for (let cut = 0; cut < 2; cut++) {
      const call = await connection.request("POST", "/sockerless.agent.v1.AgentService/Session", headers);
      call.on("error", () => {});
      call.write("echoed");
      assert.equal(String((await once(call, "data"))[0]), "echoed");
      const trailers: unknown[] = [];
      call.on("trailers", (sent) => trailers.push(sent["grpc-status"]));
      const closed = once(call, "close");
      cuts[cut]?.();
      await closed;
      assert.ok(!trailers.includes("0"), "it does not look whole");
    }
    connection.close();
    cable.close();
    near.close();
  });

  it("answers control calls of each protocol, with their errors", async () => {
    const tls = await pemOf(certificates.client);
    const baseUrl = `https://127.0.0.1:${port}`;
    const transports = [
      createConnectTransport({ httpVersion: "1.1", baseUrl, nodeOptions: { ...tls, agent: false } }),
      createConnectTransport({ httpVersion: "2", baseUrl, nodeOptions: tls, useHttpGet: true }),
      createGrpcTransport({ baseUrl, nodeOptions: tls }),
    ];
    for (const transport of transports) {
      const client = createClient(SystemService, transport);
      assert.equal((await client.getCapabilities({})).backend, "local");
      await assert.rejects(client.getInfo({}), (error) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(error.rawMessage, "the engine is busy");
        assert.equal(error.metadata.get("sockerless-error-kind"), "conflict");
        return true;
      });
    }
  });

  it("lets nobody to agents who shows no certificate of its authority, and tells of it", async () => {
    asked.length = 0;
    const { ca } = await pemOf(certificates.client);
    const { cert, key } = await pemOf(strange.client);
    for (const shown of [{}, { cert, key }]) {
      assert.match(await callAgent({ ca, ...shown }), /closed|certificate|ECONNRESET|EPIPE/i);
    }
    assert.deepEqual(asked, []);
    for (const reason of [
      /turned away: .*did not return a certificate/,
      /turned away: its certificate is refused/,
    ]) {
      await until(() => warnings().find((line) => reason.test(line)));
      const { remote } = lines.find(({ msg }) => reason.test(String(msg))) ?? {};
      assert.match(String(remote), /127\.0\.0\.1 [1-9]/);
    }
    assert.equal(await callAgent(await pemOf(certificates.client)), "status 5");
    assert.deepEqual(asked, ["f".repeat(64)]);
  });

  it("is not loud about callers that only connect, as load balancers' probes do", async () => {
    const before = warnings();
    for (let probes = 0; probes < 3; probes++) {
      const probe = connect(port, "127.0.0.1", () => probe.end()).on("error", () => {});
      await once(probe.resume(), "close");
    }
    const told = (): number =>
      lines
        .filter(({ msg }) => String(msg).startsWith("callers disconnected"))
        .reduce((sum, { callers }) => sum + Number(callers), 0);
    await until(() => (told() >= 3 ? true : undefined));
    assert.deepEqual(warnings(), before);
  });

  it("serves callers beside a flood of connections, which is bounded and logged", async () => {
    const flood = Array.from({ length: 400 }, () => connect(port, "127.0.0.1").on("error", () => {}));
    const tls = await pemOf(certificates.client);
    await until(() => warnings().find((line) => line.includes("have not finished their handshakes yet")));
    // Its own connection is younger than those of the flood that are let go.
    assert.equal(await callAgent(tls), "status 5");
    for (const socket of flood) {
      socket.destroy();
    }
  });

  it("shows other certificates once they were read again, and keeps its own where those are none", async () => {
    const { cert, key } = certificates.server;
    const [oldCert, oldKey] = await Promise.all([readFile(cert), readFile(key)]);
    const shown = async (): Promise<string> => {
      const socket = connectTls({
        port,
        host: "127.0.0.1",
        ...(await pemOf(certificates.client)),
        rejectUnauthorized: false,
      });
      await once(socket, "secureConnect");
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.destroy();
      return fingerprint256;
    };
    const first = await shown();
    await writeFile(cert, "none");
    await assert.rejects(async () => backend.reload?.());
    assert.equal(await shown(), first);
    await writeFile(cert, await readFile(strange.server.cert));
    await writeFile(key, await readFile(strange.server.key));
    assert.match(String(await backend.reload?.()), /1 TCP listener/);
    assert.notEqual(await shown(), first);
    await Promise.all([writeFile(cert, oldCert), writeFile(key, oldKey)]);
    await backend.reload?.();
  });
});
