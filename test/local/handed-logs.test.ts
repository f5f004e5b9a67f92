/**
 * Logs that are not followed: who reads one writes it into the client's connection, the shim or the host process. The tests of
 * logs in test/api take this way here and the workers' as well.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { open, readdir } from "node:fs/promises";
import { get, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { before, describe, test } from "node:test";

import { type DaemonRole, findShim, processOf, killAndAwaitNext } from "../support/processes.ts";
import { channelText, framesOf, RawClient } from "../support/raw-client.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok } = withDaemon();

/** More than kernel and clients buffer. */
const lines = 500_000;
const printed = `seq ${lines}; echo done >&2`;
const logOf = (container: string) => `/v1.51/containers/${container}/logs?stdout=1&stderr=1`;

/** An answer whose body has begun, so that somebody reads the log, and of which nobody reads more yet. */
async function begun(path: string): Promise<IncomingMessage> {
  const request = get({ socketPath: daemon.socket, path, agent: false });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  await once(response, "readable");
  return response;
}

/** The log as it comes through a worker, to a client that knows no chunks. */
async function relayed(path: string): Promise<Buffer> {
  const client = new RawClient(daemon.socket);
  client.send(`GET ${path} HTTP/1.0\r\nHost: docker\r\n\r\n`);
  await client.end();
  client.close();
  return client.body;
}

/** All that comes of an answer, and the error that cuts it. */
async function received(response: IncomingMessage): Promise<{ bytes: Buffer; code: string | undefined }> {
  const chunks: Buffer[] = [];
  response.on("data", (chunk: Buffer) => chunks.push(chunk));
  const ended = Promise.withResolvers<string | undefined>();
  response.once("end", () => ended.resolve(undefined));
  response.once("error", ({ code }: NodeJS.ErrnoException) => ended.resolve(code));
  const code = await ended.promise;
  return { bytes: Buffer.concat(chunks), code };
}

/** Kills a process, and waits for its successor. */
async function kill(role: DaemonRole): Promise<void> {
  await killAndAwaitNext(daemon, role);
  await untilTrue(async () => (await daemon.docker("version")).code === 0);
}

describe("a log that is not followed", () => {
  const whole = new Map<string, Buffer>();
  const wholeOf = (container: string) => whole.get(container) ?? assert.fail(container);

  before(async () => {
    await ok("run", "-d", "--name", "runs", "busybox", "sh", "-c", `${printed}; touch /all; exec sleep 1000`);
    await ok("run", "-d", "--name", "ended", "busybox", "sh", "-c", printed);
    await ok("wait", "ended");
    await untilTrue(async () => (await daemon.docker("exec", "runs", "ls", "/all")).code === 0);
    for (const container of ["runs", "ended"]) {
      whole.set(container, await relayed(logOf(container)));
      assert.equal(channelText(wholeOf(container), 1).split("\n").length, lines + 1);
    }
  });

  for (const container of ["runs", "ended"]) {
    test(`comes whole of one that ${container} though the frontend and its forwarder are killed meanwhile`, async () => {
      const log = await begun(logOf(container));
      await kill("forwarder");
      await kill("frontend");
      assert.ok((await buffer(log)).equals(wholeOf(container)));
    });
  }

  test("comes whole of one that runs though the backend is killed meanwhile, of an ended one whole or cut", async () => {
    const [runs, ended] = await Promise.all([begun(logOf("runs")), begun(logOf("ended"))]);
    await kill("backend");
    assert.ok((await buffer(runs)).equals(wholeOf("runs")));
    const { bytes, code } = await received(ended);
    assert.ok(code === "ECONNRESET" || bytes.equals(wholeOf("ended")), `${bytes.length} ${code}`);
    assert.ok((await buffer(await begun(logOf("ended")))).equals(wholeOf("ended")));
  });

  test("needs no thread of the frontend, as one that comes through a worker does", async () => {
    await kill("frontend");
    const pid = await processOf(daemon, "frontend");
    const threads = async () => (await readdir(`/proc/${pid}/task`)).length;
    await buffer(await begun(logOf("ended")));
    // A frontend that has just begun starts threads of its own.
    let before = await threads();
    await untilTrue(async () => {
      const last = before;
      await buffer(await begun(logOf("ended")));
      before = await threads();
      return before === last;
    });
    await relayed(logOf("ended"));
    assert.ok((await threads()) > before);
  });

  test("is never whole where its shim is killed meanwhile", async () => {
    const log = await begun(logOf("runs"));
    const id = await ok("inspect", "-f", "{{.Id}}", "runs");
    process.kill(findShim(daemon, id) ?? assert.fail("no shim"), "SIGKILL");
    const { bytes, code } = await received(log);
    assert.equal(code, "ECONNRESET");
    assert.ok(
      bytes.length < wholeOf("runs").length && wholeOf("runs").subarray(0, bytes.length).equals(bytes),
    );
  });

  test("says that it is damaged as one that comes through a worker does", async () => {
    const id = await ok("inspect", "-f", "{{.Id}}", "ended");
    const directory = join(daemon.stateDir, "containers", id, "log");
    const [name = ""] = await readdir(directory);
    await using file = await open(join(directory, name), "r+");
    await file.write("?", 1_000_000);
    const { bytes, code } = await received(await begun(logOf("ended")));
    assert.equal(code, "ECONNRESET");
    assert.match(framesOf(bytes).at(-1)?.data.toString() ?? "", /^Error grabbing logs: .*is damaged at byte/);
    assert.ok(bytes.equals(await relayed(logOf("ended"))));
  });
});
