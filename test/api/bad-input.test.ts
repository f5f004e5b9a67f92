/** Requests that are wrong: Docker's status and message, and nothing changed. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { busyboxImage, dockerArchive } from "../support/images.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon } = withDaemon();
const call = (method: string, path: string, body?: unknown) =>
  callApi(daemon.socket, method, path, body === undefined ? {} : { body });

async function message(answer: { json(): unknown }): Promise<string> {
  return (answer.json() as { message: string }).message;
}

describe("a request that is wrong", () => {
  const wrong: readonly [string, string, string, unknown, number, RegExp][] = [
    ["malformed JSON", "POST", "/v1.51/containers/create", "{", 400, /./],
    ["an unknown path", "GET", "/v1.51/nothing", undefined, 404, /^page not found$/],
    [
      "a version that is too new",
      "GET",
      "/v1.99/info",
      undefined,
      400,
      /^client version 1\.99 is too new\. Maximum supported API version is 1\.51$/,
    ],
    [
      "a container that is not there",
      "GET",
      "/v1.51/containers/ghost/json",
      undefined,
      404,
      /^No such container: ghost$/,
    ],
    [
      "an image that is not there",
      "POST",
      "/v1.51/containers/create",
      { Image: "ghost" },
      404,
      /^No such image: ghost(:latest)?$/,
    ],
    // Not 404: the CLI would take that for the image, and pull it.
    [
      "volumes of a container that is not there",
      "POST",
      "/v1.51/containers/create",
      { Image: "busybox", HostConfig: { VolumesFrom: ["ghost"] } },
      400,
      /^No such container: ghost$/,
    ],
    ...["fromSrc=-&repo=x", "fromImage=x"].map((source): (typeof wrong)[number] => [
      `a platform that is none, ${source}`,
      "POST",
      `/v1.51/images/create?${source}&platform=nintendo64`,
      undefined,
      400,
      /^"nintendo64": unknown operating system or architecture: invalid argument$/,
    ]),
    [
      "an exec that is not there",
      "GET",
      "/v1.51/exec/ghost/json",
      undefined,
      404,
      /^No such exec instance: ghost$/,
    ],
    [
      "an absurd name",
      "POST",
      "/v1.51/containers/create?name=%2F..%2F",
      { Image: "busybox" },
      400,
      /Invalid container name/,
    ],
    [
      "logs of no stream",
      "GET",
      "/v1.51/containers/x/logs",
      undefined,
      400,
      /you must choose at least one stream/,
    ],
    [
      "a memory limit below the minimum",
      "POST",
      "/v1.51/containers/create",
      { Image: "busybox", HostConfig: { Memory: 1024 } },
      400,
      /Minimum memory limit allowed is 6MB/,
    ],
    [
      "an unknown signal",
      "POST",
      "/v1.51/containers/x/kill?signal=NOPE",
      undefined,
      400,
      /invalid signal: NOPE/,
    ],
    [
      "a filter that does not exist",
      "GET",
      `/v1.51/containers/json?filters=${encodeURIComponent('{"colour":["red"]}')}`,
      undefined,
      400,
      /invalid filter 'colour'/,
    ],
    ["a value of the wrong type", "POST", "/v1.51/containers/create", { Image: 5 }, 400, /./],
    ["what is not built", "GET", "/v1.51/plugins/privileges?remote=x", undefined, 501, /./],
  ];
  for (const [what, method, path, body, status, text] of wrong) {
    test(`${what}: ${status}`, async () => {
      const answer = await call(method, path, body);
      assert.equal(answer.status, status, answer.text);
      assert.match(await message(answer), text);
    });
  }

  test("a version that is too old gets plain text, which is what such clients show", async () => {
    const answer = await call("GET", "/v1.12/info");
    assert.equal(answer.status, 400);
    assert.equal(
      answer.text,
      "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n",
    );
  });

  test("a body over 4 MiB is refused before it is read whole", async () => {
    const answer = await call("POST", "/v1.51/containers/create", {
      Image: "busybox",
      Cmd: ["x".repeat(5 * 1024 * 1024)],
    });
    assert.equal(Math.floor(answer.status / 100), 4, answer.text);
  });

  test("an ambiguous prefix is refused", async () => {
    const ids: string[] = [];
    const clash = () => ids.find((id, at) => ids.findIndex((other) => other[0] === id[0]) < at);
    while (clash() === undefined) {
      ids.push(await daemon.ok("create", "busybox"));
    }
    const answer = await call("GET", `/v1.51/containers/${clash()?.[0]}/json`);
    assert.equal(answer.status, 400);
    await daemon.ok("rm", ...ids);
  });

  test("a container of an image with a large configuration is refused, and is not there", async () => {
    const Labels = Object.fromEntries(Array.from({ length: 2_001 }, (_, index) => [`l${index}`, ""]));
    const image = await busyboxImage({ Labels });
    const { socket } = daemon;
    const body = await dockerArchive([{ image, tags: ["large:1"] }]);
    const loaded = await callApi(socket, "POST", "/v1.51/images/load", { body });
    assert.equal(loaded.status, 200);
    const answer = await call("POST", "/v1.51/containers/create?name=large", { Image: "large:1" });
    assert.equal(answer.status, 400);
    assert.match(await message(answer), /^the image's configuration is too large for a container: /);
    assert.equal((await call("GET", "/v1.51/containers/large/json")).status, 404);
    await daemon.ok("rmi", "large:1");
  });

  test("bytes that are no HTTP end the connection and nothing else", async () => {
    const socket = connect(daemon.socket);
    socket.write("\x00\x01\x02 nonsense\r\n\r\n");
    await new Promise((resolve) => socket.once("close", resolve).resume());
    assert.equal((await call("GET", "/_ping")).text, "OK");
  });

  test("a client that leaves in the middle of a body changes nothing", async () => {
    const before = await daemon.ok("images", "-aq");
    await new Promise<void>((resolve) => {
      const upload = request({
        socketPath: daemon.socket,
        method: "POST",
        path: "/v1.51/images/load",
      });
      upload.on("error", () => resolve());
      upload.write(Buffer.alloc(1024 * 1024), () => upload.destroy());
    });
    assert.equal(await daemon.ok("images", "-aq"), before);
  });
});

describe("a second daemon", () => {
  test("on the same socket says so and ends", async () => {
    await assert.rejects(Daemon.start({ args: ["--host", daemon.host] }), /already serves|in use/);
    assert.equal((await call("GET", "/_ping")).text, "OK");
  });

  test("on the same state directory says so and ends", async () => {
    await assert.rejects(
      Daemon.start({ args: ["--state-dir", daemon.stateDir] }),
      /in use by another sockerless backend|in use/,
    );
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "fine"), "fine");
  });
});
