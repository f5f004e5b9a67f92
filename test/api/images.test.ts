/** Images through the real docker CLI: what comes in, what is listed, what goes. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { describe, test } from "node:test";
import { callApi } from "../support/call-api.ts";
import { busyboxImage, busyboxRootfsFile, ociLayout } from "../support/images.ts";
import { listenHere } from "../support/listen-here.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok } = withDaemon();

describe("the built-in image", () => {
  test("greets on a fresh start, without any registry", async () => {
    const text = await ok("run", "--rm", "sockerless/hello");
    assert.match(text, /sockerless/i);
    assert.match(await ok("images", "--format", "{{.Repository}}:{{.Tag}}"), /^sockerless\/hello:latest$/m);
  });
});

describe("docker import", () => {
  test("makes an image of a root file system, with changes", async () => {
    const id = await ok(
      "import",
      "--change",
      'CMD ["echo", "imported"]',
      "--change",
      "ENV A=b",
      "--message",
      "by hand",
      await busyboxRootfsFile(),
      "plain:1",
    );
    assert.match(id, /^sha256:[0-9a-f]{64}$/);
    assert.equal(await ok("run", "--rm", "plain:1"), "imported");
    assert.equal(await ok("inspect", "-f", "{{.Config.Env}} {{.Comment}}", "plain:1"), "[A=b] by hand");
    await ok("rmi", "plain:1");
  });

  test("takes standard input", async () => {
    const input = await readFile(await busyboxRootfsFile());
    const result = await daemon.dockerWith({ input }, "import", "-", "piped");
    assert.equal(result.code, 0, result.errorText);
    assert.equal(await ok("run", "--rm", "piped", "echo", "yes"), "yes");
    await ok("rmi", "piped");
  });

  test("takes a URL, which the backend fetches", async (context) => {
    const archive = await readFile(await busyboxRootfsFile());
    const server = createServer((request, response) => {
      response.writeHead(request.url === "/root.tar" ? 200 : 404, { "content-length": archive.length });
      response.end(archive);
    });
    const port = await listenHere(server);
    context.after(() => server.close());
    const url = `http://127.0.0.1:${port}`;
    const text = await ok("import", "--change", 'CMD ["echo", "fetched"]', `${url}/root.tar`, "fetched:1");
    assert.match(text, new RegExp(`^Downloading from ${url}/root.tar\n(.*\n)*sha256:[0-9a-f]{64}$`));
    assert.equal(await ok("run", "--rm", "fetched:1"), "fetched");
    await ok("rmi", "fetched:1");
    const absent = await docker("import", `${url}/absent`, "fetched:2");
    assert.match(absent.errorText, /failed to GET .*absent with status 404 Not Found/);
  });

  test("refuses a change that is none, and stores nothing", async () => {
    const before = await ok("images", "-aq");
    const refused = await docker("import", "--change", "FLY away", await busyboxRootfsFile(), "bad");
    assert.notEqual(refused.code, 0);
    assert.equal(await ok("images", "-aq"), before);
  });
});

describe("docker load", () => {
  test("takes an OCI layout and names what it loaded", async () => {
    const input = await ociLayout(await busyboxImage({ Cmd: ["echo", "oci"] }), "docker.io/library/layout:2");
    const result = await daemon.dockerWith({ input }, "load");
    assert.match(result.text, /Loaded image: layout:2/);
    assert.equal(await ok("run", "--rm", "layout:2"), "oci");
    await ok("rmi", "layout:2");
  });

  test("refuses what is no archive, or half of one", async () => {
    const whole = await ociLayout(await busyboxImage(), "half:1");
    const before = await ok("images", "-aq");
    for (const input of [Buffer.from("no tar"), whole.subarray(0, whole.length / 2)]) {
      const result = await daemon.dockerWith({ input }, "load");
      assert.notEqual(result.code, 0);
    }
    assert.equal(await ok("images", "-aq"), before);
  });
});

describe("names of images", () => {
  test("one image has many spellings", async () => {
    const id = await ok("inspect", "-f", "{{.Id}}", "busybox");
    for (const name of ["busybox:latest", "docker.io/library/busybox", id, id.slice(7, 19)]) {
      assert.equal(await ok("inspect", "--type", "image", "-f", "{{.Id}}", name), id, name);
    }
  });

  test("tag adds a name, rmi takes names away and the last one with the image", async () => {
    await ok("import", await busyboxRootfsFile(), "one:a");
    await ok("tag", "one:a", "registry.example:5000/two:b");
    assert.equal(await ok("rmi", "registry.example:5000/two:b"), "Untagged: registry.example:5000/two:b");
    assert.match(await ok("rmi", "one:a"), /^Untagged: one:a\nDeleted: sha256:[0-9a-f]{64}/);
    assert.match((await docker("inspect", "--type", "image", "one:a")).errorText, /No such image: one:a/);
  });

  test("rmi of a platform removes an image of that one only", async () => {
    await ok("import", "--platform", "linux/arm64", await busyboxRootfsFile(), "built:arm64");
    const remove = (...architectures: string[]) => {
      const query = architectures.map((architecture) => {
        return `platforms=${encodeURIComponent(JSON.stringify({ os: "linux", architecture }))}`;
      });
      return callApi(daemon.socket, "DELETE", `/v1.51/images/built:arm64?${query.join("&")}`);
    };
    const other = await remove("amd64");
    assert.equal(other.status, 404);
    assert.deepEqual(other.json(), {
      message:
        "image with reference built:arm64 was found but its platform (linux/arm64) does not match the specified platform (linux/amd64)",
    });
    const several = await remove("amd64", "arm64");
    assert.equal(several.status, 400);
    assert.deepEqual(several.json(), { message: "multiple platforms are not supported" });
    const removed = await remove("arm64");
    assert.equal(removed.status, 200, removed.text);
    assert.deepEqual((removed.json() as object[])[0], { Untagged: "built:arm64" });
  });

  test("an image that a container uses stays", async () => {
    const id = await ok("create", "--name", "user", "busybox");
    const refused = await docker("rmi", "busybox");
    assert.match(
      refused.errorText,
      new RegExp(
        `conflict: unable to (remove repository reference "busybox"|delete busybox) .*container ${id.slice(0, 12)}`,
      ),
    );
    await ok("rm", "user");
  });

  test("a name that is none is refused", async () => {
    assert.match(
      (await docker("tag", "busybox", "Upper")).errorText,
      /invalid reference format|must be lowercase/,
    );
  });
});
