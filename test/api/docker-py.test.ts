/**
 * docker-py, and others that read an answer's header through a buffer of which they drop the rest: bytes of
 * the same read as the header are lost on them. The test fails if docker-py cannot be installed, unless
 * SOCKERLESS_WITHOUT_DOCKER_PY is 1.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { findDockerPy, runDockerPy } from "../support/docker-py.ts";
import { channelText, hijackRequest } from "../support/raw-client.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

/**
 * How many of so many may be lost: dockerd does not wait for its clients either, and one that gets no processor for a
 * long time reads late.
 */
const mayBeLate = (count: number) => Math.ceil(count / 30);

describe("a client that drops what it reads with the header", () => {
  const rounds = 30;

  /** How often all output comes behind the read that ends the header. */
  async function wholeOutputs(path: () => Promise<string>, body: string): Promise<number> {
    let whole = 0;
    for (let round = 0; round < rounds; round++) {
      const client = api.connect().send(hijackRequest(await path(), { body }));
      await client.end();
      assert.equal(channelText(client.body, 1), "first\n");
      whole += client.laterBody.equals(client.body) ? 1 : 0;
      client.close();
    }
    return whole;
  }

  test("gets the first output of execs", async () => {
    const id = await api.run({ Cmd: ["sleep", "1000"] });
    const exec = { Cmd: ["echo", "first"], AttachStdout: true };
    const whole = await wholeOutputs(async () => {
      const { Id } = await api.expect<{ Id: string }>(201, "POST", `/containers/${id}/exec`, exec);
      return `/v1.51/exec/${Id}/start`;
    }, "{}");
    assert.ok(whole >= rounds - mayBeLate(rounds), `${whole} of ${rounds} had their first output`);
    await api.remove(id);
  });

  test("gets the first output of a container that has long begun", async () => {
    const id = await api.script("echo first");
    await api.wait(id, "not-running");
    const path = `/v1.51/containers/${id}/attach?logs=1&stdout=1`;
    const whole = await wholeOutputs(() => Promise.resolve(path), "");
    assert.ok(whole >= rounds - mayBeLate(rounds), `${whole} of ${rounds} had their first output`);
    await api.remove(id);
  });
});

describe("docker-py", () => {
  interface Streams {
    readonly execs: number;
    readonly whole_execs: number;
    readonly refused: readonly [number, string];
    readonly followed: readonly string[];
    readonly stored: readonly string[];
    readonly attached: string;
  }

  test("reads execs, logs by the line and attachments", async (t) => {
    const found = await findDockerPy();
    if ("missing" in found) {
      if (process.env["SOCKERLESS_WITHOUT_DOCKER_PY"] === "1") {
        t.skip(found.missing);
        return;
      }
      throw new Error(found.missing);
    }
    const result = await runDockerPy(found.packages, "streams.py", daemon.socket, "busybox");
    assert.equal(result.code, 0, result.errorText);
    const streams = JSON.parse(result.text) as Streams;
    assert.ok(
      streams.whole_execs >= streams.execs - mayBeLate(streams.execs),
      `${streams.whole_execs} of ${streams.execs} execs had all their output`,
    );
    const [code, reason] = streams.refused;
    assert.equal(code, 127);
    assert.match(reason, /no such file or directory/);
    const lines = ["one line\n", "two\n", "three\n", "end"];
    assert.deepEqual(streams.followed, lines);
    assert.deepEqual(streams.stored, lines);
    assert.equal(streams.attached, lines.join(""));
  });
});
