/** Bind mounts with what is mounted beneath them, on this machine and in containers. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import { runCommand } from "../support/command.ts";
import { callApi } from "../support/call-api.ts";
import { EngineApi } from "../support/engine-api.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon, docker, ok } = withDaemon();
const skip = onlyOn("local", "a task has no host");

const directory = scratchDirectory();
async function mounted(...args: string[]): Promise<void> {
  const { code, errorText } = await runCommand("mount", args);
  assert.equal(code, 0, errorText);
}
before(async () => {
  if (skip !== false) {
    return;
  }
  await mounted("-t", "tmpfs", "tmpfs", directory);
  await mounted("--make-private", directory);
  await mkdir(join(directory, "beneath"));
  await mounted("-t", "tmpfs", "tmpfs", join(directory, "beneath"));
});
after(async () => {
  if (skip === false) {
    await runCommand("umount", ["--recursive", directory]);
  }
});

describe("a read-only bind mount", () => {
  const writesBeneath = async (...flags: string[]) =>
    (await docker("run", "--rm", ...flags, "busybox", "touch", "/x/beneath/file")).code === 0;
  const mount = (options: string) => `type=bind,source=${directory},target=/x,${options}`;

  test("is so with all that is mounted beneath, unless the user says otherwise", { skip }, async () => {
    assert.equal(await writesBeneath("-v", `${directory}:/x`), true);
    assert.equal(await writesBeneath("-v", `${directory}:/x:ro`), false);
    assert.equal(await writesBeneath("--mount", mount("readonly")), false);
    assert.equal(await writesBeneath("--mount", mount("readonly,bind-recursive=writable")), true);
    assert.equal(
      await writesBeneath("--mount", mount("readonly,bind-recursive=readonly,bind-propagation=rprivate")),
      false,
    );
  });

  test("is not recursive for clients that do not know it", { skip }, async () => {
    const Mounts = [{ Type: "bind", Source: directory, Target: "/x", ReadOnly: true }];
    const body = { Image: "busybox", Cmd: ["touch", "/x/beneath/old"], HostConfig: { Mounts } };
    const call = (method: string, path: string, content?: unknown) =>
      callApi(daemon.socket, method, `/v1.43${path}`, content === undefined ? {} : { body: content });
    await call("POST", "/containers/create?name=old", body);
    await call("POST", "/containers/old/start");
    assert.equal(await ok("wait", "old"), "0");
    await ok("rm", "old");
  });

  test("is not recursive for clients that do not know it, in Binds as well", { skip }, async () => {
    for (const [version, code] of [
      ["1.43", 0],
      ["1.44", 1],
    ] as const) {
      const old = new EngineApi(() => daemon.socket, version);
      const id = await old.run({
        Cmd: ["touch", "/x/beneath/bound"],
        HostConfig: { Binds: [`${directory}:/x:ro`] },
      });
      assert.equal(await old.wait(id), code, version);
      await old.remove(id);
    }
  });

  test("that contradicts itself is refused", async () => {
    const contradicted = async (BindOptions: object) => {
      const Mounts = [{ Type: "bind", Source: directory, Target: "/x", ReadOnly: true, BindOptions }];
      const body = { Image: "busybox", HostConfig: { Mounts } };
      const refused = await callApi(daemon.socket, "POST", "/v1.51/containers/create?name=odd", {
        body,
      });
      return [refused.status, (refused.json() as { message: string }).message];
    };
    assert.deepEqual(await contradicted({ ReadOnlyNonRecursive: true, ReadOnlyForceRecursive: true }), [
      400,
      "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive",
    ]);
    assert.notEqual((await docker("inspect", "odd")).code, 0);
  });
});

describe("a bind mount that passes mounts on", () => {
  const mountsBelow = () =>
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(` ${directory}/from-container `)).length;

  test("needs a source that does", { skip }, async () => {
    const refused = await docker("run", "--rm", "-v", `${directory}:/x:rshared`, "busybox", "true");
    assert.match(
      refused.errorText,
      new RegExp(`path ${directory} is mounted on ${directory} but it is not a shared mount`),
    );
    const slave = await docker("run", "--rm", "-v", `${directory}:/x:rslave`, "busybox", "true");
    assert.match(slave.errorText, /but it is not a shared or slave mount/);
  });

  test("shows the machine what the container mounts, and a slave does not", { skip }, async () => {
    await mounted("--make-rshared", directory);
    const inside = ["sh", "-c", "mkdir -p /x/from-container && mount -t tmpfs tmpfs /x/from-container"];
    for (const [propagation, seen] of [
      ["rslave", 0],
      ["rshared", 1],
    ] as const) {
      await ok("run", "--rm", "--privileged", "-v", `${directory}:/x:${propagation}`, "busybox", ...inside);
      assert.equal(mountsBelow(), seen, propagation);
    }
    await mounted("--make-rprivate", directory);
  });
});

describe("a bind of the daemon's own directory", () => {
  const api = new EngineApi(() => daemon.socket);
  const config = (source: string, Propagation: string) => [
    { Binds: [`${source}:/x${Propagation === "" ? "" : `:${Propagation}`}`] },
    { Mounts: [{ Type: "bind", Source: source, Target: "/x", BindOptions: { Propagation } }] },
  ];

  test("passes on what is unmounted there, and is refused otherwise", { skip }, async () => {
    for (const source of [daemon.stateDir, join(daemon.stateDir, "containers"), "/"]) {
      for (const [asked, shown] of [
        ["", "rslave"],
        ["rslave", "rslave"],
        ["rshared", "rshared"],
      ] as const) {
        for (const HostConfig of config(source, asked)) {
          const id = await api.create({ HostConfig });
          assert.deepEqual((await api.inspect(id)).Mounts[0]?.["Propagation"], shown, `${source} ${asked}`);
          await api.remove(id);
        }
      }
      for (const asked of ["private", "rprivate", "slave", "shared"]) {
        for (const HostConfig of config(source, asked)) {
          await api.refuses(
            400,
            /must use either propagation mode "rslave" or "rshared"/,
            "POST",
            "/containers/create",
            {
              Image: "busybox",
              HostConfig,
            },
          );
        }
      }
    }
    assert.equal(
      await ok("run", "--rm", "-v", `${daemon.stateDir}:/x:ro`, "busybox", "ls", "-d", "/x"),
      "/x",
    );
  });
});
