import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex, PassThrough } from "node:stream";
import { test, type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

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
    const context = { request: client, socket: client, head: Buffer.alloc(0), takeOver: () => {} };
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
