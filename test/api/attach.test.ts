/** `/containers/{id}/attach` in all its forms, standard input and its end. */
import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { once } from "node:events";
import { spawn } from "node:child_process";
import { describe, test } from "node:test";

import { WebSocket } from "ws";

import { channelText, hijackRequest, type RawClient } from "../support/raw-client.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

/** An attachment that was answered. */
async function attached(container: string, query: string, upgrade = true): Promise<RawClient> {
  const client = api.connect();
  client.send(hijackRequest(`/v1.51/containers/${container}/attach?${query}`, { upgrade }));
  await client.answered();
  return client;
}

const all = "stdin=1&stdout=1&stderr=1&stream=1";
const interactive = { OpenStdin: true, AttachStdin: true };
const isRunning = async (container: string) => (await api.inspect(container)).State.Running;

describe("an attachment", () => {
  test("upgrades the connection where its client asks for that, and takes it over where not", async () => {
    const id = await api.create({ Cmd: ["echo", "hello"] });
    const upgraded = await attached(id, "stdout=1&stream=1");
    assert.match(upgraded.header, /^HTTP\/1\.1 101 UPGRADED\r\n/);
    assert.match(upgraded.header, /\r\nConnection: Upgrade(\r\n|$)/);
    assert.match(upgraded.header, /\r\nUpgrade: tcp(\r\n|$)/);
    assert.match(upgraded.header, /\r\nContent-Type: application\/vnd\.docker\.multiplexed-stream(\r\n|$)/);
    const plain = await attached(id, "stdout=1&stream=1", false);
    assert.match(plain.header, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(plain.header, /\r\nContent-Type: application\/vnd\.docker\.raw-stream(\r\n|$)/);
    // Both were answered before the start, and both get the first byte.
    await api.start(id);
    for (const client of [upgraded, plain]) {
      await client.end();
      assert.equal(channelText(client.body, 1), "hello\n");
      client.close();
    }
    await api.remove(id);
  });

  test("of a terminal is its bytes", async () => {
    const id = await api.create({ Cmd: ["echo", "hello"], Tty: true });
    const client = await attached(id, "stdout=1&stream=1");
    assert.match(client.header, /application\/vnd\.docker\.raw-stream/);
    await api.start(id);
    await client.end();
    assert.equal(client.body.toString(), "hello\r\n");
    client.close();
    await api.remove(id);
  });

  test("with logs=1 begins with what was written before", async () => {
    const id = await api.script("echo before; read line; echo $line", interactive);
    await until(async () =>
      (await api.call("GET", `/containers/${id}/logs?stdout=1`)).text.includes("before") ? true : undefined,
    );
    const recorded = await attached(id, "logs=1&stdout=1");
    await recorded.end();
    assert.equal(channelText(recorded.body, 1), "before\n", "without stream=1 that is all");
    const client = await attached(id, `logs=1&${all}`);
    await client.says("before");
    client.send("after\n");
    await client.end();
    assert.equal(channelText(client.body, 1), "before\nafter\n");
    recorded.close();
    client.close();
    await api.remove(id);
  });

  test("shares standard input and output with others", async () => {
    const id = await api.script("while read line; do echo got $line; done", interactive);
    const [one, two] = [await attached(id, all), await attached(id, all)];
    one.send("one\n");
    await two.says("got one");
    two.send("two\n");
    await one.says("got two");
    // One client that leaves takes nothing from the others.
    one.close();
    two.send("three\n");
    await two.says("got three");
    two.close();
    assert.ok(await isRunning(id));
    await api.remove(id);
  });

  test("that half-closes ends standard input, and gets what still comes", async () => {
    const id = await api.create({ Cmd: ["sh", "-c", "cat; echo bye"], ...interactive, StdinOnce: true });
    const client = await attached(id, all);
    await api.start(id);
    client.socket.end("some input\n");
    await client.end();
    assert.equal(channelText(client.body, 1), "some input\nbye\n");
    assert.equal(await api.wait(id), 0);
    client.close();
    await api.remove(id);
  });

  test("with StdinOnce closes standard input when its client leaves, without it does not", async () => {
    for (const StdinOnce of [true, false]) {
      const id = await api.create({
        Cmd: ["sh", "-c", "while read l; do echo $l; done; exit 6"],
        ...interactive,
        StdinOnce,
      });
      const client = await attached(id, all);
      await api.start(id);
      client.send("heard\n");
      await client.says("heard");
      client.close();
      if (StdinOnce) {
        assert.equal(await api.wait(id), 6);
      } else {
        const next = await attached(id, all);
        next.send("still here\n");
        await next.says("still here");
        next.close();
      }
      await api.remove(id);
    }
  });

  test("ends with the detach keys of its own, and the container runs on", async () => {
    const id = await api.run({ Cmd: ["cat"], ...interactive, Tty: true });
    for (const [query, keys] of [
      [all, "\x10\x11"],
      [`${all}&detachKeys=ctrl-x,q`, "\x18q"],
    ] as const) {
      const client = await attached(id, query);
      client.send("line\n");
      await client.says("line");
      client.send(keys);
      await client.end();
      client.close();
      assert.ok(await isRunning(id), query);
    }
    const refused = api.connect();
    refused.send(hijackRequest(`/v1.51/containers/${id}/attach?${all}&detachKeys=nonsense`));
    await refused.answered();
    assert.match(refused.header, /^HTTP\/1\.1 400 /);
    refused.close();
    await api.remove(id);
  });

  test("carries the bytes over a WebSocket too", async () => {
    const id = await api.create({ Cmd: ["sh", "-c", "read l; echo got $l"], ...interactive });
    const socket = new WebSocket(`ws+unix:${daemon.socket}:/v1.51/containers/${id}/attach/ws?${all}`);
    let text = "";
    socket.on("message", (data: Buffer) => {
      text += data.toString();
    });
    await once(socket, "open");
    await api.start(id);
    socket.send("by web\n");
    await once(socket, "close");
    assert.equal(text, "got by web\n");
    await api.remove(id);
  });

  test("carries all that a client sends over a WebSocket before it closes that", async () => {
    const id = await api.create({ Cmd: ["sh", "-c", "cat | wc -c"], ...interactive, StdinOnce: true });
    await api.start(id);
    const query = "stdin=1&stream=1";
    const socket = new WebSocket(`ws+unix:${daemon.socket}:/v1.51/containers/${id}/attach/ws?${query}`);
    await once(socket, "open");
    for (let n = 0; n < 5_000; n += 1) {
      socket.send("a\n");
    }
    socket.close();
    await api.call("POST", `/containers/${id}/wait`);
    const logs = await api.call("GET", `/containers/${id}/logs?stdout=1`);
    assert.match(logs.text, /10000\n$/);
    await api.remove(id);
  });

  test("to what cannot be attached to is refused before the connection is", async () => {
    const refused = async (container: string, status: number, message: RegExp) => {
      const client = api.connect();
      client.send(hijackRequest(`/v1.51/containers/${container}/attach?${all}`));
      await client.end();
      assert.match(client.header, new RegExp(`^HTTP/1\\.1 ${status} `));
      assert.match(client.header, /^Content-Type: application\/vnd\.docker\.raw-stream$/m);
      assert.match(client.body.toString(), message);
      client.close();
    };
    await refused("nobody", 404, /^No such container: nobody\r\n$/);
    const id = await api.run({ Cmd: ["sleep", "1000"] });
    await api.expect(204, "POST", `/containers/${id}/pause`);
    await refused(id, 409, /is paused, unpause the container before attach\r\n$/);
    await api.remove(id);
  });
});

/** The docker CLI with a file, not a pipe, as standard input. */
async function withFile(content: string, ...args: string[]): Promise<{ code: number; text: string }> {
  const file = await open(join(daemon.directory, "stdin"), "w+");
  await file.writeFile(content);
  await using input = await open(join(daemon.directory, "stdin"), "r");
  await file.close();
  const child = spawn("docker", args, { env: daemon.clientEnv, stdio: [input.fd, "pipe", "inherit"] });
  let text = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number];
  return { code, text };
}

describe("standard input from a file", () => {
  const content = "line\n".repeat(50_000);

  test("reaches a run whole, and its end too", async () => {
    assert.deepEqual(await withFile(content, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 4"), {
      code: 4,
      text: content,
    });
    assert.deepEqual(await withFile("", "run", "--rm", "-i", "busybox", "cat"), { code: 0, text: "" });
  });

  test("reaches an exec whole, and its end too", async () => {
    const id = await api.run({ Cmd: ["sleep", "1000"] });
    assert.deepEqual(await withFile(content, "exec", "-i", id, "sh", "-c", "cat; exit 4"), {
      code: 4,
      text: content,
    });
    assert.deepEqual(await withFile("", "exec", "-i", id, "cat"), { code: 0, text: "" });
    // A process that does not read its input ends all the same.
    assert.deepEqual(await withFile(content, "exec", "-i", id, "echo", "done"), { code: 0, text: "done\n" });
    await api.remove(id);
  });
});
