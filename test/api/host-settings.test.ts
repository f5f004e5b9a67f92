/** Settings of the host that a container is given: their effect, seen from inside. */
import assert from "node:assert/strict";
import { access, mkdtemp, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { EngineApi } from "../support/engine-api.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon();
const api = new EngineApi(() => setting.daemon.socket);

const skip = onlyOn("local", "a task has no host");

/** What an inspection tells. */
interface Told {
  readonly Id: string;
  readonly Config: { readonly MacAddress?: string };
  readonly LogPath: string;
  readonly HostnamePath: string;
  readonly HostsPath: string;
  readonly ResolvConfPath: string;
}

test("a container has the kernel's values and the name that it is given", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "skl-cid-"));
  t.after(() => rm(directory, { recursive: true }));
  const cidFile = join(directory, "cid");
  const flags = ["--sysctl=net.core.somaxconn=777", "--name=valued", "--cidfile", cidFile];
  assert.equal(
    await setting.daemon.ok("run", ...flags, "busybox", "cat", "/proc/sys/net/core/somaxconn"),
    "777",
  );
  const told = await api.expect<Told>(200, "GET", "/containers/valued/json");
  assert.equal(await readFile(cidFile, "utf8"), told.Id);
  if (backendUnderTest() === "ecs") {
    // No such file is on this machine.
    assert.deepEqual([told.HostnamePath, told.HostsPath, told.ResolvConfPath], ["", "", ""]);
  }
  await api.remove("valued");
});

test("a container has the address, the namespaces and the devices of the host that it is given", {
  skip,
}, async () => {
  const inside = [
    "cat /sys/class/net/eth0/address /proc/self/oom_score_adj",
    "readlink /proc/self/ns/uts",
    "readlink /proc/self/ns/pid",
    "stat -c %t:%T /dev/mine",
    "dd if=/dev/mine bs=4 count=1 2>/dev/null | od -An -tx1",
  ];
  const flags = [
    ..."--mac-address 02:42:00:00:00:63 --oom-score-adj 321".split(" "),
    ..."--uts host --pid host --device /dev/zero:/dev/mine:r --name=given".split(" "),
  ];
  const output = await setting.daemon.ok("run", ...flags, "busybox", "sh", "-ec", inside.join("\n"));
  assert.deepEqual(output.split("\n"), [
    "02:42:00:00:00:63",
    "321",
    await readlink("/proc/self/ns/uts"),
    await readlink("/proc/self/ns/pid"),
    "1:5",
    " 00 00 00 00",
  ]);

  const told = await api.expect<Told>(200, "GET", "/containers/given/json");
  assert.equal(told.Config.MacAddress, "02:42:00:00:00:63");
  assert.equal(told.LogPath, "");
  assert.match(await readFile(told.HostsPath, "utf8"), /^127\.0\.0\.1\tlocalhost$/m);
  await Promise.all([access(told.HostnamePath), access(told.ResolvConfPath)]);
  await api.remove("given");
});

test("a platform that an image does not have is refused, its own is not", async () => {
  const created = await api.expect<{ Id: string }>(
    201,
    "POST",
    `/containers/create?platform=linux/${process.arch === "x64" ? "amd64" : process.arch}`,
    {
      Image: "busybox",
      Cmd: ["true"],
    },
  );
  await api.remove(created.Id);
  await api.refuses(404, /platform/, "POST", "/containers/create?platform=linux/s390x", {
    Image: "busybox",
    Cmd: ["true"],
  });
});
