/** Requests and containers that mean harm: what is checked is what is done, and nothing leaves its container. */
import assert from "node:assert/strict";
import { lstat, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { backendUnderTest, quickestNetwork } from "../support/backend-under-test.ts";
import { channelText, hijackRequest } from "../support/raw-client.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

/** A field of `HostConfig`, a value of it that the backend refuses, and the option of the docker CLI that it names then. */
const { field, value, option } =
  backendUnderTest() === "local"
    ? { field: "UsernsMode", value: "private", option: "--userns" }
    : {
        field: "PidMode",
        value: "host",
        option: backendUnderTest() === "ecs" ? "--pid" : "--pid, --ipc (host and container:NAME)",
      };

/** Sends a creation's body as it is written, in chunks or as one. */
async function sent(
  body: string,
  chunked: boolean,
): Promise<{ status: number; message: string; id: string }> {
  const client = api.connect();
  const bytes = Buffer.from(body);
  client.send(
    [
      "POST /v1.51/containers/create HTTP/1.1",
      "Host: docker",
      "Connection: close",
      "Content-Type: application/json",
      chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${bytes.length}`,
      "",
      "",
    ].join("\r\n"),
  );
  if (chunked) {
    for (let at = 0; at < bytes.length; at += 65_536) {
      const part = bytes.subarray(at, at + 65_536);
      client
        .send(`${part.length.toString(16)}\r\n`)
        .send(part)
        .send("\r\n");
    }
    client.send("0\r\n\r\n");
  } else {
    client.send(bytes);
  }
  await client.end();
  client.close();
  const { Id = "", message = "" } = JSON.parse(client.body.toString()) as { Id?: string; message?: string };
  return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(client.header)?.[1]), message, id: Id };
}

describe("a policy", () => {
  const padding = `"Labels":{"padding":"${"x".repeat(3_000_000)}"},`;
  const network = quickestNetwork();
  const refused = `"HostConfig":{"NetworkMode":"${network}","${field}":"${value}"}`;
  const harmless = `"HostConfig":{"NetworkMode":"${network}"}`;

  for (const chunked of [false, true]) {
    test(`reads all that is done, in a body that is ${chunked ? "chunked" : "one"}, small or large`, async () => {
      for (const before of ["", padding]) {
        const { status, message } = await sent(`{"Image":"busybox",${before}${refused}}`, chunked);
        assert.deepEqual(
          [status, message],
          [501, `the ${backendUnderTest()} backend does not support ${option}`],
        );
      }
    });
  }

  test("and what is done read the same of two fields with one name", async () => {
    const bodies = [
      `{"Image":"busybox",${harmless},${refused}}`,
      `{"Image":"busybox",${refused},${harmless}}`,
      `{"Image":"busybox",${harmless},${refused.replace("HostConfig", "hostconfig")}}`,
      `{"Image":"busybox",${refused.replace("HostConfig", "HOSTCONFIG")},${harmless}}`,
      `{"Image":"busybox","HostConfig":{"NetworkMode":"${network}","${field}":"","${field.toLowerCase()}":"${value}"}}`,
      `{"Image":"busybox","HostConfig":{"NetworkMode":"${network}","${camelCase(field)}":"${value}","${field}":""}}`,
    ];
    for (const body of bodies) {
      const { status, message, id } = await sent(body, false);
      if (status === 201) {
        assert.equal((await api.inspect(id)).HostConfig[field], "", body);
        await api.remove(id);
      } else {
        assert.ok(message.includes(option), `${body}: ${message}`);
      }
    }
  });

  test("holds for what an update brings, too", async () => {
    const id = await api.create({ HostConfig: { Memory: 67_108_864 } });
    await api.refuses(
      400,
      /Minimum memory limit/,
      "POST",
      `/containers/${id}/update`,
      '{"Memory":67108864,"memory":1}',
    );
    assert.equal((await api.inspect(id)).HostConfig["Memory"], 67_108_864);
    await api.remove(id);
  });
});

function camelCase(name: string): string {
  return `${name.charAt(0).toLowerCase()}${name.slice(1)}`;
}

describe("a request's body", () => {
  test("is never taken for standard input, nor what follows it for a request", async () => {
    const id = await api.create({ Cmd: ["cat"], OpenStdin: true, StdinOnce: true });
    const before = (await api.expect<unknown[]>(200, "GET", "/containers/json?all=1")).length;
    const client = api.connect();
    const attach = hijackRequest(`/v1.51/containers/${id}/attach?stdin=1&stdout=1&stream=1`, {
      body: '{"this":"is a body"}',
    });
    const smuggled = `POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 19\r\n\r\n{"Image":"busybox"}`;
    client.send(attach + smuggled);
    await client.answered();
    await api.start(id);
    client.socket.end();
    await client.end();
    client.close();
    assert.equal(channelText(client.body, 1), smuggled);
    assert.equal((await api.expect<unknown[]>(200, "GET", "/containers/json?all=1")).length, before);
    await api.remove(id);
  });
});

describe("a container that swaps its paths", () => {
  test("while they are copied gains nothing outside", async () => {
    const outside = join(daemon.directory, "outside");
    await mkdir(outside);
    await writeFile(join(outside, "secret"), "the machine's secret");
    const id = await api.script(
      "mkdir /real && echo own > /real/secret && while :; do rm -rf /dir; ln -s $OUTSIDE /dir; rm /dir; cp -r /real /dir; done",
      { Env: [`OUTSIDE=${outside}`] },
    );
    const path = `/containers/${id}/archive?path=`;
    const planted = await tarOf([{ name: "planted", content: "x" }]);
    const nested = await tarOf([{ name: "dir/planted", content: "x" }]);
    for (let round = 0; round < 40; round++) {
      const answers = await Promise.allSettled([
        api.call("GET", `${path}/dir/secret`),
        api.call("GET", `${path}/dir/.`),
        api.call("PUT", `${path}/dir`, planted, { "Content-Type": "application/x-tar" }),
        api.call("PUT", `${path}/`, nested, { "Content-Type": "application/x-tar" }),
      ]);
      for (const answer of answers) {
        // A tree that changes while it is read may end in the middle of its archive, which is a broken connection.
        assert.doesNotMatch(answer.status === "fulfilled" ? answer.value.text : "", /the machine's secret/);
      }
    }
    await assert.rejects(lstat(join(outside, "planted")), { code: "ENOENT" });
    await api.remove(id);
  });
});

describe("a container that brings its own helpers", () => {
  test("has none of them run when it is entered, copied from or looked into", async () => {
    // A trap in place of the container's own programs leaves a file when it is run, on the machine if it
    // could.
    const trap = "#!/bin/busybox sh\nbusybox touch /trapped\n";
    const id = await api.script(
      `for name in tar cp ps gzip runc docker-init sh; do rm -f /bin/$name; printf '${trap.replaceAll("\n", "\\n")}' > /bin/$name; busybox chmod 755 /bin/$name; done;` +
        "busybox mkdir -p /lib /etc; busybox cp /bin/tar /lib/libnss_files.so.2; busybox echo ready; busybox sleep 1000",
    );
    await api.wrote(id, "ready");
    const exec = async (...Cmd: string[]) => {
      const { Id } = await api.expect<{ Id: string }>(201, "POST", `/containers/${id}/exec`, {
        Cmd,
        AttachStdout: true,
        AttachStderr: true,
        User: "app",
      });
      const client = api.connect();
      client.send(hijackRequest(`/v1.51/exec/${Id}/start`, { body: "{}" }));
      await client.end();
      client.close();
      return channelText(client.body, 1);
    };
    await api.expect(200, "GET", `/containers/${id}/top`);
    await api.expect(200, "GET", `/containers/${id}/changes`);
    assert.equal((await api.call("GET", `/containers/${id}/archive?path=/etc`)).status, 200);
    assert.equal((await api.call("GET", `/containers/${id}/export`)).status, 200);
    assert.equal(await exec("/bin/busybox", "id", "-un"), "app\n");
    assert.equal((await api.call("HEAD", `/containers/${id}/archive?path=/trapped`)).status, 404);
    await api.remove(id);
  });
});
