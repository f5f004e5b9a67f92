import assert from "node:assert/strict";
import { createServer } from "node:http";
import { describe, it, test } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";

import { systemClock } from "../../common/clock.ts";
import { ExecService, InspectExecResponseSchema } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { ReplyContext } from "../request-context.ts";
import { connectionTo } from "./connection-to.ts";
import { InnerSockets, type InnerSocketsOptions } from "./inner-sockets.ts";

test("a connection whose server ends first breaks nothing when it is written on", async () => {
  const server = createServer();
  const socket = await connectionTo(server);
  const closed = new Promise((resolve) => {
    socket.once("close", resolve);
  });
  const more = (): void =>
    void (socket.destroyed || socket.write(Buffer.alloc(65_536), () => setImmediate(more)));
  socket.write("no request\r\n\r\n");
  more();
  socket.resume();
  await closed;
});

describe("the Docker sockets of a container", () => {
  /** Sockets of containers whose processes connect at once, again and again. @param opened called for each connection */
  function busySockets(opened: (containerId: string) => void): InnerSockets {
    const link = { opened: Promise.resolve(), cancel: () => {} };
    const services = {
      backend: {
        containers: {
          openTunnel: async ({ container }: { readonly container: string }) => {
            opened(container);
            return {};
          },
        },
      },
      agents: { targetOf: () => ({}) },
      streams: { open: () => link },
    };
    return new InnerSockets({
      ...{ services, transport: createRouterTransport(() => {}), routes: [], version: "1" },
      ...{ clock: systemClock, logger: pino({ level: "silent" }) },
    } as unknown as InnerSocketsOptions);
  }

  function settle(sockets: InnerSockets, containerId: string, count: number): void {
    const paths = Array.from({ length: count }, (_, at) => `/run/docker-${at}.sock`);
    sockets.settle(
      containerId,
      paths.map((path) => ({ $typeName: "sockerless.backend.v1.InnerSocket" as const, path, full: true })),
    );
  }

  /**
   * The connections that are taken within half a second from containers whose processes connect at once.
   *
   * @param atLeast as many are taken, soon
   */
  async function takenFrom(containers: number, atLeast: number): Promise<number> {
    let opened = 0;
    const sockets = busySockets(() => {
      opened += 1;
    });
    for (let at = 0; at < containers; at += 1) {
      settle(sockets, `c${at}`, 3);
    }
    await setTimeout(500);
    const taken = opened;
    while (opened < atLeast) {
      await setTimeout(50);
    }
    await sockets.close();
    return taken;
  }

  it("take a bounded number of connections a second, all together", async () => {
    const opened = await takenFrom(1, 11);
    assert.ok(opened <= 64, `${opened} connections`);
  });

  it("take a bounded number of connections a second, of all containers together", async () => {
    const opened = await takenFrom(20, 65);
    assert.ok(opened <= 256, `${opened} connections`);
  });

  it("take another container's connections beside sixty-four that connect without a pause", async (t) => {
    const taken = { others: 0, another: 0 };
    const fourth = Promise.withResolvers<void>();
    const sockets = busySockets((containerId) => {
      if (containerId !== "another") {
        taken.others += 1;
      } else if (++taken.another === 4) {
        fourth.resolve();
      }
    });
    t.after(() => sockets.close());
    for (let at = 0; at < 64; at += 1) {
      settle(sockets, `c${at}`, 8);
    }
    await setTimeout(200);
    taken.others = 0;
    settle(sockets, "another", 1);
    await fourth.promise;
    assert.ok(taken.others <= 64 * 8, `behind ${taken.others} of others`);
  });

  it("remember no more ends of execs than a container has connections", async (t) => {
    const asked = Promise.withResolvers<ReplyContext>();
    const transport = createRouterTransport(({ service }) => {
      service(ExecService, {
        inspectExec: () => Promise.reject(new ConnectError("no such exec", Code.NotFound)),
      });
    });
    const link = {
      opened: Promise.resolve(),
      ended: new Promise(() => {}),
      pipeTo: (sink: (chunk: Buffer, written: () => void) => void) =>
        sink(Buffer.from("GET /asked HTTP/1.1\r\nHost: docker\r\n\r\n"), () => {}),
      ...{ cancel: () => {}, onDrain: () => {}, onOutputEnd: () => {}, write: () => true },
    };
    const sockets = new InnerSockets({
      services: {
        backend: { containers: { openTunnel: async () => ({}) } },
        ...{ agents: { targetOf: () => ({}) }, streams: { open: () => link } },
      },
      routes: [
        {
          ...{ method: "GET", path: "/asked", answeredBy: "frontend" },
          handler: async (context: ReplyContext) => {
            asked.resolve(context);
            context.response.end();
          },
        },
      ],
      ...{ transport, version: "1", clock: systemClock, logger: pino({ level: "silent" }) },
    } as unknown as InnerSocketsOptions);
    t.after(() => sockets.close());
    sockets.settle("c", [
      { $typeName: "sockerless.backend.v1.InnerSocket", path: "/run/docker.sock", full: false },
    ]);
    const { services, logger } = await asked.promise;
    const { signal } = new AbortController();
    for (let id = 0; id <= 64; id += 1) {
      services.execEnds.of(create(InspectExecResponseSchema, { id: `${id}` }), { logger, signal }).unopened();
    }
    await assert.rejects(services.execEnds.inspect("0", signal), /no such exec/);
    assert.equal((await services.execEnds.inspect("1", signal)).exitCode, 126);
  });
});
