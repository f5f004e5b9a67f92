/** Strangers at the metrics address: however many they are and whatever they say, they hold few connections. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { request as tlsRequest } from "node:https";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { before, describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { type MetricsListener, serveMetrics } from "../../src/common/metrics/serve-metrics.ts";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { openConnections } from "../support/open-connections.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { logger } = capturedLogger();
const most = 64;
const floodSize = 100;
const longAnswer = "x".repeat(1024 * 1024);

const floods: Readonly<Record<string, string | Buffer>> = {
  "say nothing": "",
  "send half a ClientHello": Buffer.from([0x16, 3, 1, 2, 0, 1, 0]),
  "send half a request": "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ",
  "do not read their answers": "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2),
};

describe("the metrics address", () => {
  const directory = scratchDirectory();
  let certificates: TestCertificates;
  before(async () => {
    certificates = await makeCertificates(directory);
  });
  for (const kind of ["of this machine", "by TLS"] as const) {
    for (const [name, sent] of Object.entries(floods)) {
      it(`${kind} has few connections of those that ${name}, and answers`, { timeout: 120_000 }, async () => {
        const isPlain = kind === "of this machine";
        const listener = await serveMetrics(
          { address: isPlain ? "tcp://127.0.0.1:0" : "tcp://0.0.0.0:0", tls: certificates.server, logger },
          { metrics: () => Promise.resolve(longAnswer), parts: () => Promise.resolve([]) },
        );
        const port = portOf(listener);
        const sockets = await Promise.all(
          Array.from({ length: floodSize }, async () => {
            const socket = connect(port, "127.0.0.1").on("error", () => {});
            socket.pause();
            await Promise.race([once(socket, "connect"), once(socket, "close")]);
            socket.write(sent);
            return socket;
          }),
        );
        try {
          await untilTrue(async () => (await openConnections(port)) <= most);
          assert.equal(await get(port, isPlain), 200);
        } finally {
          for (const socket of sockets) {
            socket.destroy();
          }
          await listener.close();
        }
      });
    }
  }

  it("answers a client that offers HTTP/2", async () => {
    const listener = await serveMetrics(
      { address: "tcp://127.0.0.1:0", tls: undefined, logger },
      { metrics: () => Promise.resolve("a 1\n"), parts: () => Promise.resolve([]) },
    );
    try {
      const headers = { Connection: "Upgrade, HTTP2-Settings", Upgrade: "h2c", "HTTP2-Settings": "AAMAAABk" };
      const options = { port: portOf(listener), host: "127.0.0.1", path: "/metrics", agent: false, headers };
      const [answer] = await once(request(options).end(), "response");
      assert.equal(await text(answer), "a 1\n");
    } finally {
      await listener.close();
    }
  });

  it("answers one request of a connection, and gathers metrics once at a time", async () => {
    let gathering = 0;
    let most = 0;
    const metrics = async () => {
      gathering += 1;
      most = Math.max(most, gathering);
      await setTimeout(20);
      gathering -= 1;
      return "a 1\n";
    };
    const listener = await serveMetrics(
      { address: "tcp://127.0.0.1:0", tls: undefined, logger },
      { metrics, parts: () => Promise.resolve([]) },
    );
    const ask = async (requests: number): Promise<string> => {
      const socket = connect(portOf(listener), "127.0.0.1").on("error", () => {});
      socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(requests));
      return await text(socket).catch(() => "");
    };
    try {
      assert.equal(await ask(10_000), "", "a client that does not wait for its answer is cut");
      for (const answer of await Promise.all(Array.from({ length: 20 }, () => ask(1)))) {
        assert.match(answer, /^HTTP\/1.1 200 OK\r\n.*Connection: close\r\n.*\na 1\n/s);
      }
      assert.equal(most, 1);
    } finally {
      await listener.close();
    }
  });

  it("parses no body, and answers no request that has one", async () => {
    let asked = 0;
    const metrics = async () => {
      asked += 1;
      return "a 1\n";
    };
    const listener = await serveMetrics(
      { address: "tcp://127.0.0.1:0", tls: undefined, logger },
      { metrics, parts: () => Promise.resolve([]) },
    );
    try {
      const socket = connect(portOf(listener), "127.0.0.1").on("error", () => {});
      socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n");
      assert.equal(await text(socket).catch(() => ""), "");
      assert.equal(asked, 0);
    } finally {
      await listener.close();
    }
  });

  async function get(port: number, isPlain: boolean): Promise<number> {
    const options = { port, host: "127.0.0.1", path: "/livez", agent: false };
    const { ca, cert, key } = certificates.client;
    const files = { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) };
    const asked = isPlain ? request(options) : tlsRequest({ ...options, ...files });
    const [answer] = await once(asked.end(), "response");
    answer.resume();
    return answer.statusCode;
  }
});

function portOf({ address }: MetricsListener): number {
  return Number(new URL(address).port);
}
