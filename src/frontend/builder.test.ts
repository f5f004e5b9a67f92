import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex, PassThrough } from "node:stream";
import { test, type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { serveApi } from "../../test/support/docker-api.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import { untilTrue } from "../../test/support/until.ts";
import { forwardToBuilder, joinBuilder } from "./builder.ts";
import type { HijackContext, ReplyContext } from "./request-context.ts";

/** A builder's socket, whose builder reads nothing. */
async function idleBuilder(t: TestContext): Promise<{ readonly path: string; cut(): void }> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-builder-"));
  const connections: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (connection) => connections.push(connection));
  const path = join(directory, "b.sock");
  server.listen(path);
  await once(server, "listening");
  const cut = (): void => {
    for (const connection of connections) {
      connection.destroy();
    }
  };
  t.after(async () => {
    cut();
    server.close();
    await rm(directory, { recursive: true });
  });
  return { path, cut };
}

/** A client that sends each byte by itself. */
class Trickle extends Duplex {
  sent = 0;
  readonly method = "POST";
  readonly headers = {};
  readonly rawHeaders = [];

  override _read(): void {
    if (this.sent < 20_000) {
      this.sent += 1;
      setImmediate(() => this.push("a"));
    }
  }

  override _write(_chunk: unknown, _encoding: unknown, written: () => void): void {
    written();
  }

  /** Resolves once no more is read of it. */
  async isHeld(): Promise<void> {
    for (let [before, turns] = [0, 0]; turns < 100; turns += 1) {
      await nextTurn();
      [before, turns] = this.sent === before ? [before, turns] : [this.sent, 0];
    }
  }
}

const joined: Readonly<Record<string, (client: Trickle, path: string) => Promise<void>>> = {
  build: (client, path) => {
    const { signal } = new AbortController();
    const context = { request: client, response: new PassThrough(), signal } as unknown as ReplyContext;
    return forwardToBuilder(context, path, "/build");
  },
  session: (client, path) => {
    const context = { request: client, socket: client, body: Buffer.alloc(0), takeOver: () => {} };
    return joinBuilder(context as unknown as HijackContext, path, "/session");
  },
};

for (const [what, join] of Object.entries(joined)) {
  test(`of a ${what} that the builder does not read little waits, though each byte come by itself`, async (t) => {
    const builder = await idleBuilder(t);
    const client = new Trickle({ highWaterMark: 1 });
    client.on("error", () => {});
    const ended = join(client, builder.path).catch(() => {});
    await client.isHeld();
    assert.ok(client.sent < 2_000, `${client.sent} bytes were taken`);
    builder.cut();
    client.destroy();
    await ended;
  });
}

for (const framing of ["Content-Length: 4", "Transfer-Encoding: chunked"]) {
  test(`the builder gets what a session's client sends, with a body behind ${framing}`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), "sockerless-builder-"));
    t.after(() => rm(directory, { recursive: true }));
    const path = join(directory, "b.sock");
    const builder = createServer().listen(path);
    t.after(() => builder.close());
    const route = { method: "POST", path: "/session", kind: "session", hijack: true } as const;
    const handler = (context: HijackContext): Promise<void> => joinBuilder(context, path, "/session");
    const api = await serveApi(t, () => {}, [{ ...route, handler }]);
    const body = framing.endsWith("4") ? "body" : "4\r\nbody\r\n0\r\n\r\n";
    const header = `POST /session HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n${framing}\r\n\r\n`;
    const client = new RawClient(api.socket).send(`${header}${body}behind`);
    t.after(() => client.close());
    const [connection] = (await once(builder, "connection")) as [Socket];
    t.after(() => connection.destroy());
    let got = "";
    connection.on("data", (chunk: Buffer) => (got += String(chunk)));
    await untilTrue(() => got.endsWith("behind"));
    assert.match(got, /\r\nContent-Length: 4\r\n/);
    assert.ok(got.endsWith("\r\n\r\nbodybehind"), got);
  });
}
