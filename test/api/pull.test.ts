/** `docker pull`, `docker run --pull` and `docker login` at a real registry, with and without credentials. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { backendUnderTest } from "../support/backend-under-test.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxImage, indexBlob, indexType, manifestType } from "../support/images.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { assertDescribed } from "../support/swagger.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, api } = withDaemon();

interface Distribution {
  readonly Descriptor: { readonly mediaType: string; readonly digest: string; readonly size: number };
  readonly Platforms: readonly object[];
}

const { open, closed } = duringTests(async (resources) => {
  const open = resources.use(await TestRegistry.start());
  const closed = resources.use(await TestRegistry.start({ credentials: true }));
  await open.push("team/box", "1", await busyboxImage({ Cmd: ["echo", "version one"] }));
  await closed.push("secret/box", "latest", await busyboxImage({ Cmd: ["echo", "secret"] }));
  return { open, closed };
});

describe("docker pull", () => {
  test("fetches an image and tells its digest; a second time it is up to date", async () => {
    const name = `${open.host}/team/box:1`;
    const first = await ok("pull", name);
    assert.match(first, /Pulling from team\/box\n/);
    assert.match(first, /Digest: sha256:[0-9a-f]{64}\n/);
    assert.match(first, new RegExp(`Status: Downloaded newer image for ${name}`));
    assert.match(await ok("pull", name), new RegExp(`Status: Image is up to date for ${name}`));
    assert.equal(await ok("run", "--rm", name), "version one");
    const digest = /sha256:[0-9a-f]{64}/.exec(first)?.[0];
    assert.equal(await ok("run", "--rm", `${open.host}/team/box@${digest}`), "version one");
  });

  test("follows a tag that moved", async () => {
    const name = `${open.host}/moving:latest`;
    for (const text of ["before", "after"]) {
      await open.push("moving", "latest", await busyboxImage({ Cmd: ["echo", text] }));
      assert.equal(await ok("run", "--rm", "--quiet", "--pull", "always", name), text);
    }
  });

  test("of all tags names them all, and tells one status", async () => {
    const name = `${open.host}/team/many`;
    for (const tag of ["one", "two"]) {
      await open.push("team/many", tag, await busyboxImage({ Cmd: ["echo", tag] }));
    }
    const text = await ok("pull", "--all-tags", name);
    assert.match(text, /^one: Pulling from team\/many\n(.*\n)*two: Pulling from team\/many\n/);
    assert.equal(text.match(/^Digest: sha256:[0-9a-f]{64}$/gm)?.length, 2);
    assert.deepEqual(text.match(/^Status: .*$/gm), [`Status: Downloaded newer image for ${name}`]);
    assert.match(
      await ok("pull", "--all-tags", name),
      new RegExp(`^Status: Image is up to date for ${name}$`, "m"),
    );
    assert.equal(await ok("run", "--rm", `${name}:two`), "two");
    const absent = await docker("pull", "--all-tags", `${open.host}/team/absent`);
    assert.match(absent.errorText, /repository .*team\/absent not found: name unknown/);
  });

  test("need not happen for a client to learn digest and platforms", async () => {
    const image = await busyboxImage({ Cmd: ["true"] });
    const manifest = await open.push("asked", "one", image);
    const [native, other] = [image, { ...image, architecture: "riscv64" }];
    await open.push("asked", "other", other);
    await open.pushManifest("asked", "several", indexBlob([other, native]).bytes, indexType);
    const ask = async (name: string) => {
      const path = `/distribution/${open.host}/asked${name}/json`;
      const answer = await api.expect<Distribution>(200, "GET", path);
      assertDescribed("get", "/distribution/{name}/json", 200, answer);
      return answer;
    };
    const one = await ask(":one");
    const { bytes, digest } = manifest;
    assert.deepEqual(one.Descriptor, { mediaType: manifestType, digest, size: bytes.length });
    assert.equal(one.Platforms.length, 1);
    assert.deepEqual(await ask(`@${digest}`), one);
    const several = await ask(":several");
    assert.equal(several.Descriptor.mediaType, indexType);
    assert.deepEqual(several.Platforms, [{ architecture: "riscv64", os: "linux" }, ...one.Platforms]);
    await api.refuses(404, /manifest unknown/, "GET", `/distribution/${open.host}/asked:nothing/json`);
    await api.refuses(401, /no basic auth/, "GET", `/distribution/${closed.host}/secret/box/json`);
    await api.refuses(400, /invalid reference format/, "GET", "/distribution/BAD/json");
    assert.equal(await ok("images", "--quiet", `${open.host}/asked`), "");
  });

  test("of what is not there says so in the registry's words", async () => {
    const tag = await docker("pull", `${open.host}/team/box:missing`);
    assert.equal(tag.code, 1);
    assert.match(tag.errorText, /manifest for .*team\/box:missing not found: manifest unknown/);
    assert.equal((await docker("run", "--rm", `${open.host}/no/such`)).code, 125);
  });
});

describe("a registry that wants credentials", () => {
  test("refuses a stranger and a wrong password, and lets its user in", async () => {
    const name = `${closed.host}/secret/box`;
    assert.match(
      (await docker("pull", name)).errorText,
      /no basic auth credentials|authentication required|access denied/,
    );
    const login = (password: string) =>
      daemon.dockerWith(
        { input: password },
        "login",
        "-u",
        registryUser.username,
        "--password-stdin",
        closed.host,
      );
    const wrong = await login("guess");
    assert.equal(wrong.code, 1);
    assert.match(wrong.errorText, /401 Unauthorized/);
    const right = await login(registryUser.password);
    assert.match(right.text, /Login Succeeded/);
    await ok("pull", name);
    const backend = backendUnderTest();
    if (backend === "local") {
      assert.equal(await ok("run", "--rm", name), "secret");
    } else {
      // The client's credentials do not reach what pulls for a task.
      const refusals = {
        aca: /'template\.containers\.main\.image'.* UNAUTHORIZED/,
        ecs: /CannotPullContainerError/,
        kubernetes: /failed to pull .* 401 Unauthorized/,
      };
      assert.match((await docker("run", "--rm", name)).errorText, refusals[backend]);
    }
    await ok("logout", closed.host);
  });
});
