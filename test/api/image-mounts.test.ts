/** Images that are mounted in containers beside their own, through the real docker CLI. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok } = withDaemon();

/** An image of its own, with a file and links in it. */
async function tools(name: string): Promise<string> {
  const script =
    "mkdir /tool && echo v1 > /tool/version && ln -s tool/version /current && ln -s tool /linked && ln -s /tool /away";
  const container = await ok("run", "-d", "busybox", "sh", "-c", script);
  await ok("wait", container);
  const id = await ok("commit", container, name);
  await ok("rm", container);
  return id;
}
const mount = (image: string, more = "") => [
  "--mount",
  `type=image,source=${image},target=/mnt/tools${more}`,
];
const mountsOfDaemon = async () =>
  (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .filter((line) => line.includes(`${daemon.runDir}/`) && !line.includes("/netns"));

describe("docker run --mount type=image", () => {
  test("shows the image's files, read-only, and what of it was asked for", async () => {
    await tools("tools:1");
    const run = await docker("run", "--rm", ...mount("tools:1"), "busybox", "cat", "/mnt/tools/tool/version");
    assert.equal(run.text, "v1", run.errorText);
    assert.match(run.errorText, /Image mount is an experimental feature/);
    const write = await docker("run", "--rm", ...mount("tools:1"), "busybox", "touch", "/mnt/tools/file");
    if (backendUnderTest() === "aca") {
      assert.match(write.errorText, /does not apply --mount type=image \(read-only\)/);
    } else {
      assert.match(write.errorText, /Read-only file system/);
    }
    const part = await docker(
      ...["run", "--rm", ...mount("tools:1", ",image-subpath=tool"), "busybox", "ls", "/mnt/tools"],
    );
    assert.equal(part.text, "version", part.errorText);
    // A link means what it means in its image.
    const linked = await docker(
      ...["run", "--rm", ...mount("tools:1", ",image-subpath=linked"), "busybox", "cat"],
      "/mnt/tools/version",
    );
    assert.equal(linked.text, "v1", linked.errorText);
    const file = await docker(
      ...["run", "--rm", ...mount("tools:1", ",image-subpath=current"), "busybox", "cat", "/mnt/tools"],
    );
    if (backendUnderTest() === "local") {
      assert.equal(file.text, "v1", file.errorText);
    } else {
      assert.match(file.errorText, /current is no directory of the image/);
    }
    await until(async () => ((await mountsOfDaemon()).length === 0 ? true : undefined));
    await ok("rmi", "tools:1");
  });

  const keeps = onlyOn("local", "tasks pull an image at each start, and have no files before");
  test("is told by inspect, and cp reads it whether the container runs or not", { skip: keeps }, async () => {
    const image = await tools("tools:1");
    await ok("create", "--name", "user", ...mount("tools:1"), "busybox", "sleep", "1000");
    const format = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}";
    assert.equal(await ok("inspect", "--format", format, "user"), "image tools:1 /mnt/tools false");
    for (const state of ["created", "running"]) {
      assert.match(await ok("cp", "user:/mnt/tools/tool/version", "-"), /v1\n/, state);
      await ok("start", "user");
    }
    // The name is kept for it; by force it goes, and the container keeps the files.
    assert.match((await docker("rmi", "tools:1")).errorText, /is using its referenced image/);
    await ok("rmi", "--force", "tools:1");
    assert.notEqual((await docker("image", "inspect", "tools:1")).code, 0);
    await ok("restart", "--time", "0", "user");
    assert.equal(await ok("exec", "user", "cat", "/mnt/tools/tool/version"), "v1");
    await ok("stop", "--time", "0", "user");
    await ok("rmi", "--force", image);
    await ok("start", "user");
    assert.equal(await ok("exec", "user", "cat", "/mnt/tools/tool/version"), "v1");
    await ok("rm", "--force", "user");
    await until(async () => ((await mountsOfDaemon()).length === 0 ? true : undefined));
  });

  test("is refused for an image or a path that is not there, and for old clients", async () => {
    const create = (version: string, source: string) =>
      callApi(daemon.socket, "POST", `/v${version}/containers/create`, {
        body: {
          Image: "busybox",
          HostConfig: { Mounts: [{ Type: "image", Source: source, Target: "/mnt" }] },
        },
      });
    const missing = await create("1.51", "nosuch:1");
    assert.deepEqual([missing.status, missing.json()], [404, { message: "No such image: nosuch:1" }]);
    await tools("tools:1");
    const noPath = await docker(
      ...["run", "--rm", ...mount("tools:1", ",image-subpath=nowhere"), "busybox", "true"],
    );
    const refusals = {
      local: /cannot access path .*nowhere/,
      ecs: /the image has no path nowhere/,
      aca: /the image has no path nowhere/,
      kubernetes: /the image has no path nowhere/,
    };
    assert.match(noPath.errorText, refusals[backendUnderTest()]);
    const old = await create("1.47", "tools:1");
    assert.deepEqual(
      [old.status, old.json()],
      [400, { message: 'Mount type "Image" needs API v1.48 or newer' }],
    );
    await ok("rmi", "tools:1");
  });

  test("is refused for a part that a link leads out of the image", {
    skip: onlyOn("local", "a task has the image's own files"),
  }, async () => {
    await tools("tools:1");
    const away = await docker("run", "--rm", ...mount("tools:1", ",image-subpath=away"), "busybox", "true");
    assert.match(away.errorText, /path concatenation escapes the base directory/);
    await ok("rmi", "tools:1");
  });

  test("goes on after the daemon was away", async () => {
    await tools("tools:1");
    await ok("run", "-d", "--name", "stays", ...mount("tools:1"), "busybox", "sleep", "1000");
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await ok("exec", "stays", "cat", "/mnt/tools/tool/version"), "v1");
    await ok("rm", "--force", "stays");
    await until(async () => ((await mountsOfDaemon()).length === 0 ? true : undefined));
  });
});
