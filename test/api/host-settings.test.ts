/** Settings of the host that a container is given: their effect, seen from inside. */
import assert from "node:assert/strict";
import { access, mkdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { runCommand } from "../support/command.ts";
import { pastEvents } from "../support/past-events.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon, api } = withDaemon();

const skip = onlyOn("local", "a task has no host");

/** The part of an inspection that tests look at. */
interface Told {
  readonly Id: string;
  readonly Config: { readonly MacAddress?: string };
  readonly LogPath: string;
  readonly HostnamePath: string;
  readonly HostsPath: string;
  readonly ResolvConfPath: string;
}

test("a container has the kernel's values and the name that it is given", async () => {
  const directory = scratchDirectory();
  const cidFile = join(directory, "cid");
  const hasSysctls = backendUnderTest() !== "aca"; // jobs have no setting for them
  const flags = [
    ...(hasSysctls ? ["--sysctl=net.ipv4.tcp_keepalive_time=777"] : []),
    "--name=valued",
    "--cidfile",
    cidFile,
  ];
  const value = await daemon.ok("run", ...flags, "busybox", "cat", "/proc/sys/net/ipv4/tcp_keepalive_time");
  assert.equal(value === "777", hasSysctls);
  const told = await api.expect<Told>(200, "GET", "/containers/valued/json");
  assert.equal(await readFile(cidFile, "utf8"), told.Id);
  if (backendUnderTest() !== "local") {
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
  const output = await daemon.ok("run", ...flags, "busybox", "sh", "-ec", inside.join("\n"));
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

describe("devices of the machine", { skip }, () => {
  let directory = "";
  before(async () => {
    directory = scratchDirectory();
    await mkdir(join(directory, "deeper"));
    for (const name of ["null", "deeper/null"]) {
      const { code, errorText } = await runCommand("mknod", [join(directory, name), "c", "1", "3"]);
      assert.equal(code, 0, errorText);
    }
    await writeFile(join(directory, "no-device"), "");
  });
  test("are given by the directory, as a tree", async () => {
    const script = "find /dev/mine -type c | sort; find /dev/mine -type f; echo x > /dev/mine/deeper/null";
    assert.equal(
      await daemon.ok("run", "--rm", "--device", `${directory}:/dev/mine`, "busybox", "sh", "-c", script),
      "/dev/mine/deeper/null\n/dev/mine/null",
    );
    const { errorText } = await daemon.docker(..."run --rm --device /etc:/dev/etc busybox true".split(" "));
    assert.match(
      errorText,
      /error gathering device information while adding custom device "\/etc": not a device node/,
    );
  });

  test("are all in a privileged container", async () => {
    const node = join("/dev", `skl-${process.pid}`);
    assert.equal((await runCommand("mknod", ["-m", "600", node, "c", "1", "3"])).code, 0);
    try {
      const script = `stat -c %t:%T:%a ${node}`;
      assert.match(
        await daemon.ok("run", "--rm", "--privileged", "busybox", "sh", "-c", script),
        /^1:3:600$/m,
      );
      assert.notEqual((await daemon.docker("run", "--rm", "busybox", "ls", node)).code, 0);
    } finally {
      await rm(node);
    }
  });
});

test("a container has the domain name that it is given", { skip }, async () => {
  const flags = ["--rm", "--hostname=foo", "--domainname=baz.example.org"];
  assert.equal(
    await daemon.ok("run", ...flags, "busybox", "cat", "/proc/sys/kernel/domainname"),
    "baz.example.org",
  );
});

test("a container may change its control groups where it is said so", { skip }, async () => {
  const isWritable = async (...SecurityOpt: string[]) => {
    const id = await api.run({
      Cmd: ["grep", "-qE", " /sys/fs/cgroup[^ ]* cgroup2? ro[, ]", "/proc/mounts"],
      HostConfig: { SecurityOpt },
    });
    const code = await api.wait(id);
    await api.remove(id);
    return code === 1;
  };
  assert.equal(await isWritable(), false);
  assert.equal(await isWritable("writable-cgroups"), true);
  assert.equal(await isWritable("writable-cgroups=true"), true);
  assert.equal(await isWritable("writable-cgroups=false"), false);
  const HostConfig = { SecurityOpt: ["writable-cgroups=potato"] };
  await api.refuses(
    400,
    'invalid --security-opt 2: "writable-cgroups=potato"',
    "POST",
    "/containers/create",
    {
      Image: "busybox",
      HostConfig,
    },
  );
});

test("memory nodes and runtimes that the machine does not have are refused at the creation", {
  skip,
}, async () => {
  const create = (HostConfig: object) =>
    ["POST", "/containers/create", { Image: "busybox", HostConfig }] as const;
  await api.refuses(
    400,
    /^Requested memory nodes are not available - requested 4095, available: [0-9,-]+$/,
    ...create({ CpusetMems: "4095" }),
  );
  await api.refuses(400, "unknown or invalid runtime name: nosuch", ...create({ Runtime: "nosuch" }));
  const { Runtimes } = await api.expect<{ Runtimes: Record<string, unknown> }>(200, "GET", "/info");
  for (const Runtime of ["runc", "io.containerd.runc.v2", ...Object.keys(Runtimes)]) {
    await api.remove(await api.create({ HostConfig: { Runtime, CpusetMems: "0" } }));
  }
});

test("a container that is not killed for want of memory says that it wants", { skip }, async (t) => {
  const { OomKillDisable } = await api.expect<{ OomKillDisable: boolean }>(200, "GET", "/info");
  if (!OomKillDisable) {
    t.skip("the kernel cannot");
    return;
  }
  const HostConfig = { Memory: 8 << 20, MemorySwap: 8 << 20, OomKillDisable: true };
  const id = await api.script("x=a; while true; do x=$x$x$x$x; done", { HostConfig });
  await untilTrue(async () => (await pastEvents(daemon, { container: [id], event: ["oom"] })).length > 0);
  assert.equal((await api.inspect(id)).State.Running, true);
  await api.remove(id);
});

test("the mount point of a Docker socket is a file, also where files were copied before the start", {
  skip,
}, async () => {
  const socket = "/var/run/docker.sock";
  const id = await api.create({
    Cmd: ["test", "-S", socket],
    HostConfig: { Binds: [`${socket}:${socket}`] },
  });
  assert.equal((await api.inspect(id)).Mounts[0]?.["Type"], "bind");
  assert.equal((await api.call("GET", `/containers/${id}/archive?path=/etc/passwd`)).status, 200);
  const head = await api.call("HEAD", `/containers/${id}/archive?path=${socket}`);
  const { mode } = JSON.parse(
    Buffer.from(String(head.headers["x-docker-container-path-stat"]), "base64").toString(),
  ) as { mode: number };
  assert.equal(mode & 0x8000_0000, 0, "no directory");
  await api.start(id);
  assert.equal(await api.wait(id), 0);
  await api.remove(id);
});
