/** Clients that read a log slowly of a container that is removed meanwhile: dockerd reads on for them, from a file without a name. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { before, describe, test } from "node:test";

import { findShim } from "../support/processes.ts";
import { channelText } from "../support/raw-client.ts";
import { inSoak } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok } = withDaemon();

/** More than the kernel and all processes on the way hold, with a header each. */
const lines = 3_000_000;

/** An answer of which nobody reads more than its beginning until it is asked for all. */
type Slow = () => Promise<Buffer>;

async function slow(path: string): Promise<Slow> {
  const request = get({ socketPath: daemon.socket, path, agent: false });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  await once(response, "readable");
  return async () => await buffer(response);
}

/** One to a client that knows no chunks, which comes through a worker. */
async function slowlyRelayed(path: string): Promise<Slow> {
  const socket: Socket = connect(daemon.socket);
  socket.write(`GET ${path} HTTP/1.0\r\nHost: docker\r\n\r\n`);
  await once(socket, "readable");
  return async () => {
    const answer = await buffer(socket);
    return answer.subarray(answer.indexOf("\r\n\r\n") + 4);
  };
}

describe("a log that is read slowly while its container is removed", () => {
  let expected = "";
  before(() => {
    expected = Array.from({ length: lines }, (_, number) => `${number + 1}\n`).join("");
  });

  /** Reads it once the container is gone, and until its shim is, too. */
  async function outlives(begin: (path: string) => Promise<Slow>, query = ""): Promise<void> {
    const id = await ok(
      ...["run", "-d", "--name", "loud", "busybox", "sh", "-c", `seq ${lines}; touch /all; exec sleep 1000`],
    );
    await untilTrue(async () => (await daemon.docker("exec", "loud", "ls", "/all")).code === 0);
    const all = await begin(`/v1.51/containers/loud/logs?stdout=1${query}`);
    await ok("rm", "--force", "loud");
    const files = join(daemon.stateDir, "containers", id);
    await until(() => !existsSync(files) || undefined);
    assert.notEqual(findShim(daemon, id), undefined, "its shim is there for the client alone");
    assert.equal(await ok("ps", "--all", "--quiet"), "");
    assert.ok(channelText(await all(), 1) === expected);
    await until(() => findShim(daemon, id) === undefined || undefined);
  }

  test("is whole in its client's connection", inSoak, async () => {
    await outlives(slow);
  });

  test("is whole through a worker", async () => {
    await outlives(slowlyRelayed);
  });

  test("is whole where it is followed", inSoak, async () => {
    await outlives(slow, "&follow=1");
  });
});
