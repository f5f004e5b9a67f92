/** `docker cp` in every direction, through the real docker CLI. */
import assert from "node:assert/strict";
import { chmod, lstat, mkdir, readFile, readlink, symlink, writeFile, link } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { notOn, onlyOn } from "../support/backend-under-test.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok } = withDaemon();

/** A tree with what trips copying up: modes, a hard link, relative and absolute symlinks, an empty directory. */
async function makeTree(name: string): Promise<string> {
  const tree = join(daemon.directory, name);
  await mkdir(join(tree, "deep/empty"), { recursive: true });
  await writeFile(join(tree, "plain"), "plain text\n");
  await writeFile(join(tree, "deep/tool"), "#!/bin/sh\n");
  await chmod(join(tree, "deep/tool"), 0o4755);
  await link(join(tree, "plain"), join(tree, "hard"));
  await symlink("deep/tool", join(tree, "relative"));
  await symlink("/etc/passwd", join(tree, "absolute"));
  return tree;
}

async function assertTree(tree: string): Promise<void> {
  assert.equal(await readFile(join(tree, "plain"), "utf8"), "plain text\n");
  assert.equal((await lstat(join(tree, "deep/tool"))).mode & 0o7777, 0o4755);
  assert.ok((await lstat(join(tree, "deep/empty"))).isDirectory());
  assert.equal(await readlink(join(tree, "relative")), "deep/tool");
  assert.equal(await readlink(join(tree, "absolute")), "/etc/passwd");
  assert.equal(
    (await lstat(join(tree, "hard"))).ino,
    (await lstat(join(tree, "plain"))).ino,
    "hard link kept",
  );
}

const states = {
  created: ["create"],
  running: ["run", "-d"],
  exited: ["run"],
} as const;

describe("docker cp", () => {
  for (const [state, verb] of Object.entries(states)) {
    test(`carries a tree whole into and out of a container that is ${state}`, async () => {
      const name = `copy-${state}`;
      await docker(...verb, "--name", name, "busybox", ...(state === "exited" ? ["true"] : ["sleep", "600"]));
      assert.equal(await ok("inspect", "-f", "{{.State.Status}}", name), state);
      const tree = await makeTree(`in-${state}`);
      await ok("cp", tree, `${name}:/var/tmp/tree`);
      const back = join(daemon.directory, `out-${state}`);
      await ok("cp", `${name}:/var/tmp/tree`, back);
      await assertTree(back);
      await ok("rm", "-f", name);
    });
  }

  test("resolves absolute symlinks inside the container", async () => {
    await ok("run", "--name", "links", "busybox", "sh", "-c", "true");
    const file = join(daemon.directory, "own-passwd");
    await ok("cp", "links:/etc/passwd", file);
    await ok("cp", "-L", "links:/bin/sh", join(daemon.directory, "sh"));
    assert.ok(
      (await lstat(join(daemon.directory, "sh"))).size > 100_000,
      "busybox, not this machine's shell",
    );
    assert.match(await readFile(file, "utf8"), /^app:x:1000/m);
    await ok("rm", "links");
  });

  test("streams a tar on standard input and output", async () => {
    await ok("run", "-d", "--name", "streams", "busybox", "sleep", "600");
    const input = await tarOf([{ name: "streamed", content: "by tar\n" }]);
    assert.equal((await daemon.dockerWith({ input }, "cp", "-", "streams:/tmp")).code, 0);
    assert.equal(await ok("exec", "streams", "cat", "/tmp/streamed"), "by tar");
    const out = await docker("cp", "streams:/tmp/streamed", "-");
    assert.ok(out.stdout.includes("by tar\n"));
    await ok("rm", "-f", "streams");
  });

  test("sees volumes of a container, running or not", {
    skip: onlyOn(
      "local",
      "what is put into a container before its start is in its volumes from its start on",
    ),
  }, async () => {
    await ok("create", "--name", "voluminous", "-v", "papers:/papers", "busybox", "sleep", "600");
    const file = join(daemon.directory, "paper");
    await writeFile(file, "on paper");
    await ok("cp", file, "voluminous:/papers/one");
    assert.equal(await ok("run", "--rm", "-v", "papers:/p", "busybox", "cat", "/p/one"), "on paper");
    await ok("start", "voluminous");
    await ok("cp", "voluminous:/papers/one", `${file}-back`);
    assert.equal(await readFile(`${file}-back`, "utf8"), "on paper");
    await ok("rm", "-f", "voluminous");
    await ok("volume", "rm", "papers");
  });

  test("of what is not there says so", async () => {
    assert.equal((await docker("run", "--name", "bare", "busybox", "true")).code, 0);
    const id = await ok("inspect", "--format", "{{.Id}}", "bare");
    const result = await docker("cp", "bare:/no/such", "-");
    assert.equal(result.code, 1);
    assert.match(result.errorText, new RegExp(`Could not find the file /no/such in container (bare|${id})`));
    assert.notEqual((await daemon.dockerWith({ input: "not a tar" }, "cp", "-", "bare:/tmp")).code, 0);
    await ok("rm", "bare");
  });

  test("into a read-only root is refused", {
    skip: notOn("aca", "a job's root can be written, which the creation's warning says"),
  }, async () => {
    await ok("create", "--name", "sealed", "--read-only", "busybox");
    const file = join(daemon.directory, "any");
    await writeFile(file, "");
    assert.match(
      (await docker("cp", file, "sealed:/tmp/any")).errorText,
      /container rootfs is marked read-only/,
    );
    await ok("rm", "sealed");
    await ok("run", "-d", "--name=sealed", "--read-only", "--tmpfs=/scratch", "busybox", "sleep", "600");
    assert.match(
      (await docker("cp", file, "sealed:/tmp/any")).errorText,
      /container rootfs is marked read-only/,
    );
    await ok("cp", file, "sealed:/scratch/any");
    await ok("rm", "--force", "sealed");
  });

  const escapes = {
    "by ..": { name: "../../escaped", content: "x" },
    "by an absolute path": { name: "/escaped-absolute", content: "x" },
    "by a hard link": { name: "hard", type: "link" as const, linkname: "/../../../etc/hostname" },
  };
  for (const [how, entry] of Object.entries(escapes)) {
    test(`never writes outside the container: ${how}`, async () => {
      await ok("create", "--name", "fence", "busybox");
      const input = await tarOf([entry]);
      await daemon.dockerWith({ input }, "cp", "-", "fence:/tmp");
      for (const place of ["/escaped", "/escaped-absolute", join(daemon.stateDir, "escaped")]) {
        await assert.rejects(lstat(place), { code: "ENOENT" });
      }
      await ok("rm", "fence");
    });
  }

  test("never follows a symlink of the archive out of the container", async () => {
    await ok("create", "--name", "leash", "busybox");
    const input = await tarOf([
      { name: "out", type: "symlink", linkname: daemon.directory },
      { name: "out/planted", content: "x" },
    ]);
    await daemon.dockerWith({ input }, "cp", "-", "leash:/tmp");
    await assert.rejects(lstat(join(daemon.directory, "planted")), { code: "ENOENT" });
    await ok("rm", "leash");
  });
});
