/** `/containers/{id}/logs`: frames, content types, and which lines. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { EngineApi } from "../support/engine-api.ts";
import { channelText, framesOf } from "../support/raw-client.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

/**
 * Returns the answer to a log query, as bytes: the same to a client that knows no chunks, whose answer is the frontend's to
 * write, as to others, whose connection is handed on where it may be. A log may grow meanwhile, and not change.
 */
async function bytesOf(container: string, query: string): Promise<Buffer> {
  const client = api.connect();
  client.send(`GET /v1.51/containers/${container}/logs?${query} HTTP/1.0\r\nHost: docker\r\n\r\n`);
  await client.end();
  assert.match(client.header, /^HTTP\/1\.1 200 OK/);
  const { status, bytes } = await api.call("GET", `/containers/${container}/logs?${query}`);
  assert.equal(status, 200);
  assert.deepEqual(bytes.subarray(0, client.body.length), client.body);
  return bytes;
}
const stdoutOf = async (container: string, query: string) =>
  channelText(await bytesOf(container, `stdout=1&${query}`), 1);
const headersOf = async (container: string, version: string) =>
  (await new EngineApi(() => daemon.socket, version).call("GET", `/containers/${container}/logs?stdout=1`))
    .headers["content-type"];

describe("a log", () => {
  test("without a terminal is frames of the two streams, each asked for by itself", async () => {
    const id = await api.script("echo out; echo err >&2");
    await api.wait(id);
    const both = framesOf(await bytesOf(id, "stdout=1&stderr=1"));
    assert.deepEqual(
      new Set(both.map(({ channel, data }) => `${channel} ${data}`)),
      new Set(["1 out\n", "2 err\n"]),
    );
    assert.equal((await bytesOf(id, "stdout=1")).toString("latin1"), "\x01\0\0\0\0\0\0\x04out\n");
    assert.equal((await bytesOf(id, "stderr=1")).toString("latin1"), "\x02\0\0\0\0\0\0\x04err\n");
    assert.equal(await headersOf(id, "1.51"), "application/vnd.docker.multiplexed-stream");
    assert.equal(await headersOf(id, "1.41"), "application/vnd.docker.raw-stream");
    await api.remove(id);
  });

  test("of a terminal is its bytes", async () => {
    const id = await api.script("echo shown", { Tty: true });
    await api.wait(id);
    assert.equal((await bytesOf(id, "stdout=1")).toString(), "shown\r\n");
    assert.equal(await headersOf(id, "1.51"), "application/vnd.docker.raw-stream");
    await api.remove(id);
  });

  test("of no stream is refused", async () => {
    const id = await api.create({});
    await api.refuses(400, /you must choose at least one stream/i, "GET", `/containers/${id}/logs`);
    await api.refuses(404, "No such container: nobody", "GET", "/containers/nobody/logs?stdout=1");
    await api.remove(id);
  });

  test("has as many lines at its end as are asked for, partial ones too", async () => {
    const id = await api.script("printf 'a\\nb\\nc\\nhalf'");
    await api.wait(id);
    assert.equal(await stdoutOf(id, "tail=2"), "c\nhalf");
    assert.equal(await stdoutOf(id, "tail=0"), "");
    for (const all of ["tail=all", "tail=", "tail=100", "tail=-1", ""]) {
      assert.equal(await stdoutOf(id, all), "a\nb\nc\nhalf", all);
    }
    await api.remove(id);
  });

  test("has the lines of a next run, however often its last ones were read before", async () => {
    const id = await api.script("echo line");
    await api.wait(id);
    for (let times = 1; times < 3; times++) {
      for (let again = 0; again < 3; again++) {
        assert.equal(await stdoutOf(id, "tail=10"), "line\n".repeat(times));
      }
      await api.call("POST", `/containers/${id}/start`);
      await api.wait(id);
    }
    await api.remove(id);
  });

  test("begins and ends at times to the nanosecond, as Unix seconds or RFC 3339", async () => {
    // Each line is read before the next is written, so that no two have one time.
    const id = await api.script("while read line; do echo $line; done", { OpenStdin: true });
    const input = api.connect();
    input.send(
      `POST /v1.51/containers/${id}/attach?stdin=1&stream=1 HTTP/1.1\r\nHost: docker\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n`,
    );
    await input.answered();
    for (const line of ["one", "two", "three"]) {
      input.send(`${line}\n`);
      await until(async () => ((await stdoutOf(id, "")).includes(line) ? true : undefined));
    }
    input.close();
    const stamped = (await stdoutOf(id, "timestamps=1")).trim().split("\n");
    assert.deepEqual(
      stamped.map((line) => line.split(" ")[1]),
      ["one", "two", "three"],
    );
    const times = stamped.map((line) => line.split(" ")[0] ?? "");
    const [, second = ""] = times;
    assert.match(second, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
    const seconds = `${Math.floor(Date.parse(second) / 1000)}.${second.slice(20, 29)}`;
    for (const time of [second, seconds]) {
      assert.equal(await stdoutOf(id, `since=${time}`), "two\nthree\n", time);
      assert.equal(await stdoutOf(id, `until=${time}`), "one\ntwo\n", time);
      assert.equal(await stdoutOf(id, `since=${time}&until=${time}`), "two\n", time);
    }
    await api.remove(id);
  });

  test("that is followed ends with the container, every byte delivered", async () => {
    const id = await api.script("seq 1 20000; printf end", { OpenStdin: true });
    const whole = `${Array.from({ length: 20_000 }, (_, n) => `${n + 1}\n`).join("")}end`;
    assert.equal(await stdoutOf(id, "follow=1"), whole);
    assert.equal(await stdoutOf(id, "follow=1"), whole, "of an ended one too");
    await api.remove(id);
  });

  test("tells the labels and variables that its options name", async () => {
    const id = await api.script("echo line", {
      Labels: { team: "red", other: "x" },
      Env: ["STAGE=test"],
      HostConfig: { LogConfig: { Type: "json-file", Config: { labels: "team", env: "STAGE" } } },
    });
    await api.wait(id);
    assert.equal(await stdoutOf(id, "details=1"), "STAGE=test,team=red line\n");
    await api.remove(id);
  });
});

describe("where a log goes", () => {
  const limits = { "max-size": "20k", "max-file": "2" };

  for (const Type of ["json-file", "local"]) {
    test(`${Type} keeps the end of it, within its size and number of files`, async () => {
      const id = await api.script("seq 1 100000; printf last", {
        HostConfig: { LogConfig: { Type, Config: limits } },
      });
      await api.wait(id);
      const kept = await stdoutOf(id, "");
      assert.ok(kept.endsWith("99999\n100000\nlast"), kept.slice(-40));
      // Two files, of whose size the frames of records are a part.
      assert.ok(kept.length <= 2 * 20 * 1024 && kept.length >= 2_000, String(kept.length));
      await api.remove(id);
    });
  }

  test("a log that does not hold up its process is whole while there is room, and details have the tag", async () => {
    const Config = { mode: "non-blocking", "max-buffer-size": "4m", tag: "{{upper .Name}}", env: "A" };
    const HostConfig = { LogConfig: { Type: "json-file", Config } };
    const id = await api.script("seq 1 1000", { Env: ["A=1"], HostConfig }, "tagged");
    await api.wait(id);
    const lines = (await stdoutOf(id, "details=1")).split("\n");
    assert.deepEqual([lines.length, lines[0], lines[999]], [1001, "A=1,tag=TAGGED 1", "A=1,tag=TAGGED 1000"]);
    await api.remove(id);
  });

  test("none keeps nothing, and says so", async () => {
    const id = await api.script("echo lost", { HostConfig: { LogConfig: { Type: "none" } } });
    await api.wait(id);
    await api.refuses(
      501,
      "configured logging driver does not support reading",
      "GET",
      `/containers/${id}/logs?stdout=1`,
    );
    await api.remove(id);
  });
});
