/**
 * Identity of a container's processes: users, groups and capabilities, whatever the image's own files say.
 */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import type { Creation } from "../support/engine-api.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

/** An image whose passwd and group files have lines with numbers for names, which are root's. */
const passwd = `1000:x:0:0::/root:/bin/sh
root:x:0:0::/root:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
99999999999999999999:x:0:0::/:/bin/sh
wide:x:4294967296:0::/:/bin/sh
negative:x:-1:0::/:/bin/sh
`;
const group = `30:x:0:app30
root:x:0:
audio:x:29:app
staff:x:50:
`;

async function makeImages(): Promise<void> {
  const script = `printf '${passwd}' > /etc/passwd; printf '${group}' > /etc/group`;
  await daemon.ok("run", "--name", "maker", "busybox", "sh", "-c", script);
  await daemon.ok("commit", "maker", "hostile-users");
  await daemon.ok("commit", "--change", "USER 1000", "maker", "hostile-users:numbered");
  await daemon.ok("rm", "maker");
}

const whoAmI = 'echo $(id -u) $(id -g) "$(id -G)" $HOME';
const app = "1000 1001 1001 29 /home/app";

describe("a number is a number", () => {
  before(makeImages);
  const run = async (...args: string[]) => (await daemon.ok("run", "--rm", ...args)).trim();

  test("for the user of a run, and its groups and home are those of the line with it", async () => {
    assert.equal(await run("-u", "1000", "hostile-users", "sh", "-c", whoAmI), app);
    assert.equal(await run("-u", "app", "hostile-users", "sh", "-c", whoAmI), app);
    assert.equal(await run("-u", "1000:29", "hostile-users", "sh", "-c", whoAmI), "1000 29 29 /home/app");
    assert.equal(
      await run("-u", "7", "--group-add", "29", "hostile-users", "sh", "-c", whoAmI),
      "7 0 0 29 /",
    );
    const misnamed = ["run", "--rm", "-u", "7", "--group-add", "30", "hostile-users", "sh", "-c", whoAmI];
    const { code, text, errorText } = await daemon.docker(...misnamed);
    if (backendUnderTest() === "local") {
      assert.match(errorText, /\/etc\/group has a group named 30 that is not group 30/); // runc would take it for that.
      assert.equal(code, 125);
    } else {
      assert.equal(text.trim(), "7 0 0 30 /");
    }
    assert.equal(await run("hostile-users:numbered", "sh", "-c", whoAmI), app);
  });

  test("that no user can have is refused, in the command and in the file", async () => {
    for (const user of ["99999999999999999999", "-1", "wide", "negative"]) {
      const { code, errorText } = await daemon.docker("run", "--rm", `--user=${user}`, "hostile-users", "id");
      assert.notEqual(code, 0, user);
      assert.match(errorText, /uids and gids must be in range 0-2147483647/, user);
    }
  });

  test("and pipes in the place of the files hold nothing up", async () => {
    for (const file of ["passwd", "group"]) {
      const notRegular = new RegExp(`the container's /etc/${file} is not a regular file`);
      const script = `rm /etc/${file}; mkfifo /etc/${file}; echo piped; exec sleep 1000`;
      const pipe = async (name: string, ...options: string[]) => {
        await daemon.ok("run", "-d", "--name", name, ...options, "busybox", "sh", "-c", script);
        await api.wrote(name, "piped");
      };
      await pipe("box");
      const status = await daemon.ok("exec", "-u", "7:8", "box", "cat", "/proc/self/status"); // id itself would wait.
      assert.match(status, /^Uid:\t7\t.*\nGid:\t8\t/m);
      await daemon.ok("cp", "-a", "/bin/busybox", "box:/tmp/copied");
      await daemon.ok("exec", "-t", "-u", "7:8", "box", "true");
      if (backendUnderTest() === "local") {
        // These are the OCI runtime's, which would wait at the pipe.
        await pipe("limited", "--ulimit", "nproc=10000");
        const refused = await daemon.docker("exec", "-u", "7:8", "limited", "true");
        assert.equal(refused.code, 126);
        assert.match(refused.text, notRegular);
        await daemon.ok("rm", "-f", "limited");
        await daemon.ok("commit", "box", "piped");
        const started = await daemon.docker("run", "--rm", "piped", "true");
        assert.match(started.errorText, notRegular);
      }
      await daemon.ok("rm", "-f", "box");
    }
  });

  test("and links of the files to the kernel's log hold nothing up", {
    skip: onlyOn("local", "the runtime there is the cloud's") ?? false,
  }, async () => {
    for (const file of ["passwd", "group"]) {
      const script = `ln -sf ../proc/kmsg /etc/${file}`;
      await daemon.ok("run", "--name", "box", "busybox", "sh", "-c", script);
      await daemon.ok("commit", "box", "linked");
      await daemon.ok("rm", "box");
      const started = await daemon.docker("run", "--rm", "linked", "true");
      assert.match(started.errorText, new RegExp(`the container's /etc/${file} leads to /proc/kmsg`));
    }
  });

  test("for an exec, for a health check, and for the owner of what is copied", async () => {
    const check = ["--health-cmd", whoAmI, "--health-interval", "100ms"];
    await daemon.ok("run", "-d", "--name", "box", ...check, "hostile-users:numbered", "sleep", "1000");
    assert.equal((await daemon.ok("exec", "box", "sh", "-c", whoAmI)).trim(), app);
    assert.equal((await daemon.ok("exec", "-u", "1000", "box", "sh", "-c", whoAmI)).trim(), app);
    assert.equal((await daemon.ok("exec", "-u", "5:29", "box", "sh", "-c", "id -u; id -G")).trim(), "5\n29");
    const probed = await until(async () => {
      const { Health } = (await api.inspect("box")).State;
      return (Health as { Log: readonly { Output: string }[] }).Log[0];
    });
    assert.equal(probed.Output.trim(), app);
    await daemon.ok("cp", "-a", "/bin/busybox", "box:/tmp/copied");
    assert.equal((await daemon.ok("exec", "box", "stat", "-c", "%u:%g", "/tmp/copied")).trim(), "1000:1001");
    await daemon.ok("rm", "-f", "box");
  });
});

describe("an exec", () => {
  test("has the groups of --group-add whoever it runs as", async () => {
    const added = ["--group-add", "audio", "--group-add", "4711", "--group-add", "29"];
    await daemon.ok("run", "-d", "--name", "box", "-u", "7", ...added, "hostile-users", "sleep", "1000");
    const groups = async (...args: string[]) => (await daemon.ok("exec", ...args, "box", "id", "-G")).trim();
    assert.equal(await groups(), "0 29 4711");
    assert.equal(await groups("-u", "7"), "0 29 4711");
    assert.equal(await groups("-u", "app"), "1001 29 4711");
    assert.equal(await groups("-u", "9:staff"), "50 29 4711");
    assert.equal(await groups("-u", "0"), "0 29 4711");
    await daemon.ok("rm", "-f", "box");
  });

  test("that names no user is the container's, as its files say now, and so is a health check", async () => {
    const check = ["--health-cmd", whoAmI, "--health-interval", "100ms"];
    const asked = ["-u", "4711", "--group-add", "29", ...check];
    await daemon.ok("run", "-d", "--name", "box", ...asked, "hostile-users", "sleep", "1000");
    await daemon.ok("exec", "-u", "0", "box", "sh", "-c", "echo late:x:4711:50::/late: >> /etc/passwd");
    const late = "4711 50 50 29 /late";
    assert.equal((await daemon.ok("exec", "box", "sh", "-c", whoAmI)).trim(), late);
    await untilTrue(async () => {
      const { Log = [] } = (await api.inspect("box")).State.Health as { Log?: { Output: string }[] };
      return Log.at(-1)?.Output.trim() === late;
    });
    const { Id } = await api.expect<{ Id: string }>(201, "POST", "/containers/box/exec", { Cmd: ["true"] });
    const { ProcessConfig } = await api.expect<{ ProcessConfig: { user: string } }>(
      200,
      "GET",
      `/exec/${Id}/json`,
    );
    assert.equal(ProcessConfig.user, "4711");
    await daemon.ok("rm", "-f", "box");
  });
});

/**
 * Capabilities as moby 28 gives them (daemon/oci_linux.go, WithCapabilities; daemon/exec_linux.go): bounding,
 * permitted and effective are the container's list for every user, inheritable and ambient are empty; execve
 * takes the effective and the permitted ones from all but root.
 */
describe("the capabilities of a process", () => {
  const dockers = 0xa80425fbn;
  const chown = 1n;
  const kill = 1n << 5n;
  const makeNode = 1n << 27n;
  const netAdmin = 1n << 12n;
  const containers: readonly { readonly host: object; readonly bounding: bigint; readonly local?: true }[] = [
    { host: {}, bounding: dockers },
    { host: { CapDrop: ["ALL"] }, bounding: 0n },
    { host: { CapDrop: ["ALL"], CapAdd: ["CHOWN"] }, bounding: chown },
    { host: { CapDrop: ["CHOWN", "cap_kill", "CAP_MKNOD"] }, bounding: dockers & ~(chown | kill | makeNode) },
    { host: { CapAdd: ["NET_ADMIN"] }, bounding: dockers | netAdmin, local: true },
    { host: { CapDrop: ["ALL"], SecurityOpt: ["no-new-privileges"] }, bounding: 0n },
  ];
  const setsOf = (status: string) =>
    Object.fromEntries(
      [...status.matchAll(/^(Cap\w+):\s*([0-9a-f]+)$/gm)].map(([, set = "", bits]) => [
        set,
        BigInt(`0x${bits}`),
      ]),
    );
  const expected = (bounding: bigint, isRoot: boolean) => ({
    CapInh: 0n,
    CapPrm: isRoot ? bounding : 0n,
    CapEff: isRoot ? bounding : 0n,
    CapBnd: bounding,
    CapAmb: 0n,
  });

  for (const { host, bounding, local } of containers) {
    const only = local && onlyOn("local", "a task cannot have more");
    test(`of ${JSON.stringify(host)} are Docker's, of its command and of execs, as root and as others`, {
      skip: only ?? false,
    }, async () => {
      for (const User of ["", "app"]) {
        const creation: Creation = {
          Cmd: ["sh", "-c", "cat /proc/self/status; sleep 1000"],
          User,
          HostConfig: host,
        };
        const id = await api.run(creation);
        await api.wrote(id, "CapAmb");
        assert.deepEqual(setsOf(await daemon.ok("logs", id)), expected(bounding, User === ""));
        for (const user of ["0", "root", "app", "4711"]) {
          const status = await daemon.ok("exec", "-u", user, id, "cat", "/proc/self/status");
          const isRoot = user === "0" || user === "root";
          assert.deepEqual(setsOf(status), expected(bounding, isRoot), `${user} in ${User}'s`);
        }
        await api.remove(id);
      }
    });
  }
});
