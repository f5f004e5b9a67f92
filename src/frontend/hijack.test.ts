import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { serveApi } from "../../test/support/docker-api.ts";
import { systemClock } from "../common/clock.ts";
import { createLogger } from "../common/logger.ts";
import { HijackedConnection } from "./hijack.ts";
import type { Route } from "./router.ts";
import type { HandOver } from "./streams/hand-over.ts";

/** A stream that says `bye`, of a frontend whose forwarder of streams answers so. */
async function served(t: Parameters<typeof serveApi>[0], isRead: () => Promise<boolean>) {
  const route: Route = {
    method: "POST",
    path: "/raw",
    answeredBy: "frontend",
    hijack: true,
    handler: async (context) => {
      const connection = new HijackedConnection(context);
      const socket = connection.accept(false);
      await connection.headerLead();
      await connection.headerLead();
      socket.end("bye");
    },
  };
  const handOver = { isRead, mayHandOver: () => false } as unknown as HandOver;
  const logger = createLogger({ level: "silent", process: "test" });
  const { socket: path } = await serveApi(t, () => {}, [route], logger, systemClock, handOver);
  const client = connect(path);
  client.write("POST /v1.51/raw HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
  return client;
}

test("nothing follows the header of a stream until it is told that it was read", async (t) => {
  const read = Promise.withResolvers<boolean>();
  let asked = 0;
  const client = await served(t, () => {
    asked++;
    return read.promise;
  });
  const [header] = (await once(client, "data")) as [Buffer];
  assert.match(header.toString(), /^HTTP\/1\.1 101 .*\r\n\r\n$/s);
  client.pause();
  read.resolve(true);
  assert.equal(await text(client), "bye");
  assert.equal(asked, 1);
});

test("a stream whose header nobody can tell to be read follows it nevertheless", async (t) => {
  const client = await served(t, () => Promise.resolve(false));
  assert.match(await text(client), /^HTTP\/1\.1 101 .*\r\n\r\nbye$/s);
});
