/** Containers that were prepared ahead are like any other, and leave nothing where nobody wants them. */
import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { processesBelow } from "../support/processes.ts";
import {
  beganAt,
  displacedSpares,
  isOlder,
  machineTicks,
  preparedSpares,
  spareOf,
  spareWaits,
  takenSpares,
  tellingOfSpares,
} from "../support/spares.ts";
import { tracesOf, untilOnly } from "../support/traces.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon({ args: tellingOfSpares });

const plain = ["--network", "none"];
/** A shape of its own, with more than the default in it. */
const asOther = [...plain, "--user", "app", "--workdir", "/tmp", "--memory", "64m", "--cap-drop", "ALL"];

describe("a container that is just like the last two", () => {
  test("was there before it was asked for, and has its own command, environment, user and directory", async () => {
    const { daemon } = setting;
    await spareWaits(daemon, ...asOther);
    const moment = machineTicks();
    const script = `${beganAt}; echo "$0 $1" "$A" "$HOSTNAME" $(hostname) $(id -un) $(pwd); echo err >&2; exit 3`;
    const { code, errorText, text } = await daemon.docker(
      ...["run", "--name", "third", "--env", "A=b", ...asOther],
      ...["busybox", "sh", "-c", script, "zero", "a  b"],
    );
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", "third");
    const short = id.slice(0, 12);
    const [began = "", line] = text.split("\n");
    assert.deepEqual([code, errorText, line], [3, "err", `zero a  b b ${short} ${short} app /tmp`]);
    assert.ok(isOlder(began, moment), text);
    assert.equal(await daemon.ok("inspect", "--format", "{{.State.ExitCode}}", id), "3");
    assert.equal(await daemon.ok("logs", "third"), text);

    const again = await daemon.docker("start", "--attach", "third");
    assert.deepEqual([again.code, again.text.split("\n")[1]], [3, line]);
    await daemon.ok("rm", id);
    await untilOnly(daemon, id, []);
  });

  test("has its address, its names and its ways out", async () => {
    const { daemon } = setting;
    await daemon.ok(
      "run",
      "--detach",
      "--name",
      "peer",
      "busybox",
      "nc",
      "-ll",
      "-p",
      "7",
      "-e",
      "echo",
      "here",
    );
    await spareWaits(daemon, "--network", "bridge");
    const moment = machineTicks();
    const peer = await daemon.ok("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "peer");
    const script = `${beganAt}; nc -w 5 ${peer} 7 < /dev/null; ip -4 -o addr show dev eth0 | cut -d ' ' -f 7; cat /etc/hosts; ip route`;
    const id = await daemon.ok(
      "run",
      "--detach",
      "--network",
      "bridge",
      "busybox",
      "sh",
      "-c",
      `${script}; sleep 1000`,
    );
    const format =
      "{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Gateway}}";
    const [own = "", gateway = ""] = (await daemon.ok("inspect", "--format", format, id)).split(" ");
    await untilTrue(async () => (await daemon.ok("logs", id)).includes("default via"));
    const log = await daemon.ok("logs", id);
    const [began = "", answer, address] = log.split("\n");
    assert.ok(isOlder(began, moment), log);
    assert.deepEqual([answer, address], ["here", own]);
    assert.match(log, new RegExp(`^${own.split("/")[0]}\t${id.slice(0, 12)}$`, "m"));
    assert.match(log, new RegExp(`^default via ${gateway} dev eth0`, "m"));
    assert.equal(await daemon.ok("exec", id, "hostname"), id.slice(0, 12));
    await daemon.ok("rm", "--force", id, "peer");
    await untilOnly(daemon, id, []);
  });

  test("fails as any other where its command cannot be executed", async () => {
    const { daemon } = setting;
    const ends = async (...args: readonly string[]) => {
      const { code, errorText } = await daemon.docker("run", "--rm", ...plain, ...args);
      return [code, errorText.replaceAll(/[0-9a-f]{64}/g, "ID")];
    };
    for (const [n, command] of ["no-such", "/no/such", "/etc", "/etc/passwd"].entries()) {
      const alone = await ends("--shm-size", String(2 ** 26 + 2 ** 16 * (n + 1)), "busybox", command);
      await spareWaits(daemon, ...plain);
      const taken = takenSpares(daemon).length;
      assert.deepEqual(await ends("busybox", command), alone);
      await untilTrue(() => takenSpares(daemon).length > taken);
      assert.ok(alone[0] === 126 || alone[0] === 127, alone.join(" "));
    }
  });

  test("is never found to be different when it is started", async () => {
    await using daemon = await Daemon.start({ args: tellingOfSpares });
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    await daemon.ok("network", "create", "lane");
    for (const flags of [
      ["--publish", "127.0.0.1::80"],
      ["--publish-all", "--expose", "80"],
    ]) {
      for (let n = 0; n < 3; n++) {
        await daemon.ok("run", "--rm", ...flags, "busybox", "true");
      }
    }
    assert.deepEqual(preparedSpares(daemon), []);
    for (const flags of [
      ["--hostname", "box", "--dns", "192.0.2.1", "--add-host", "a:192.0.2.2"],
      ["--network", "lane", "--network-alias", "other", "--mac-address", "02:00:00:00:00:01"],
      [
        ...["--user", "app", "--workdir", "/made", "--read-only", "--tmpfs", "/tmp", "--group-add", "7"],
        ...["--ulimit", "nofile=100:200", "--pids-limit", "100", "--cap-add", "NET_ADMIN"],
      ],
    ]) {
      const spare = await spareWaits(daemon, ...flags);
      await daemon.ok("run", "--rm", "--label", "a=b", "--env", "A=b", ...flags, "busybox", "true");
      await untilTrue(() => takenSpares(daemon).includes(spare));
    }
    assert.doesNotMatch(daemon.output, /a spare is not used|no spare container is prepared/);
  });

  test("can be had eight times at once", async () => {
    const { daemon } = setting;
    await spareWaits(daemon, ...plain);
    const runs = Array.from({ length: 8 }, async (_, n) => {
      const script = `echo ${n} in $(hostname); exit ${n}`;
      return await daemon.docker("run", "--name", `one-${n}`, ...plain, "busybox", "sh", "-c", script);
    });
    const ended = await Promise.all(runs);
    const names = ended.map((_, n) => `one-${n}`);
    const ids = (await daemon.ok("inspect", "--format", "{{.Id}}", ...names)).split("\n");
    for (const [n, { code, text }] of ended.entries()) {
      assert.deepEqual([code, text], [n, `${n} in ${ids[n]?.slice(0, 12)}`]);
    }
    assert.equal(new Set(ids).size, 8);
    await untilTrue(() => ids.some((id) => takenSpares(daemon).includes(id)));
    await daemon.ok("rm", ...names);
    for (const id of ids) {
      await untilOnly(daemon, id, []);
    }
  });
});

describe("a container that was prepared ahead, and created,", () => {
  /** Creates a container in the place of a spare. @returns its ID */
  const created = async (...command: readonly string[]): Promise<string> => {
    await spareWaits(setting.daemon, ...plain);
    const id = await setting.daemon.ok("create", ...plain, "busybox", ...command);
    await untilTrue(() => takenSpares(setting.daemon).includes(id));
    return id;
  };
  const remove = async (id: string) => {
    await setting.daemon.ok("rm", "--force", id);
    await untilOnly(setting.daemon, id, []);
  };

  test("is there when it is started", async () => {
    const id = await created("sh", "-c", beganAt);
    const moment = machineTicks();
    assert.equal(
      await setting.daemon.ok("inspect", "--format", "{{.State.Status}} {{.State.Pid}}", id),
      "created 0",
    );
    assert.ok(isOlder(await setting.daemon.ok("start", "--attach", id), moment));
    await remove(id);
  });

  test("has the files that are copied into it, and shows those that it has", async () => {
    const { daemon } = setting;
    const directory = await mkdtemp(join(daemon.directory, "files-"));
    await writeFile(join(directory, "given"), "given\n");
    const id = await created("sh", "-c", "cat /etc/given");
    await daemon.ok("cp", join(directory, "given"), `${id}:/etc/given`);
    assert.equal(await daemon.ok("diff", id), "C /etc\nA /etc/given");
    assert.equal(await daemon.ok("start", "--attach", id), "given");
    await remove(id);
  });

  test("has the limits that it is given before its start", async () => {
    const { daemon } = setting;
    const id = await created("sleep", "1000");
    await daemon.ok("update", "--memory", "32m", "--memory-swap", "32m", id);
    await daemon.ok("start", id);
    const limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    assert.equal((await daemon.docker("exec", id, "sh", "-c", limit)).text, String(32 * 1024 ** 2));
    await remove(id);
  });

  test("is on the networks that it has been connected to before its start", async () => {
    const { daemon } = setting;
    await daemon.ok("network", "create", "lane");
    await spareWaits(daemon, "--network", "bridge");
    const id = await daemon.ok(
      ...["create", "--network", "bridge", "busybox", "sh", "-c", "ls /sys/class/net; cat /etc/resolv.conf"],
    );
    await untilTrue(() => takenSpares(daemon).includes(id));
    await daemon.ok("network", "connect", "lane", id);
    assert.match(
      await daemon.ok("start", "--attach", id),
      /^eth0\neth1\nlo\n(.*\n)*nameserver 127\.0\.0\.11$/m,
    );
    await remove(id);
    await daemon.ok("network", "rm", "lane");
  });

  test("leaves nothing when it is removed", async () => {
    const id = await created("true");
    await setting.daemon.ok("rm", id);
    await untilOnly(setting.daemon, id, []);
  });

  test("waits for its start as long as any other, and one that is not created goes", async () => {
    const { daemon } = setting;
    const unwanted = await spareWaits(daemon, ...asOther);
    const id = await created("echo", "started");
    assert.notDeepEqual(processesBelow(`${daemon.stateDir}/containers/${id}`), []);
    await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);
    await untilOnly(daemon, unwanted, []);
    assert.equal(await daemon.ok("start", "--attach", id), "started");
    await remove(id);
  });
});

test("the spare that has waited longest gives way to one of another shape, and leaves nothing", async () => {
  await using daemon = await Daemon.start({ args: tellingOfSpares });
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const spares: string[] = [];
  // Four wait at a time; on a slow machine the first may have gone before there is a fifth.
  while (displacedSpares(daemon).length === 0) {
    const shape = ["--shm-size", `${spares.length + 1}m`];
    spares.push(await spareWaits(daemon, ...shape, ...plain));
  }
  const [displaced = ""] = displacedSpares(daemon);
  assert.deepEqual(tracesOf(daemon, displaced), []);
  const shape = ["--shm-size", `${spares.indexOf(displaced) + 1}m`, ...plain];
  assert.equal(await daemon.ok("run", "--rm", ...shape, "busybox", "echo", "works"), "works");
  assert.equal(takenSpares(daemon).includes(displaced), false);
});

test("a spare goes with its image", async () => {
  const { daemon } = setting;
  await daemon.ok("run", "--name", "changed", ...plain, "busybox", "touch", "/changed");
  await daemon.ok("commit", "changed", "passing");
  await daemon.ok("rm", "changed");
  const spare = await spareOf(daemon, "passing", ...plain);
  assert.notDeepEqual(tracesOf(daemon, spare), []);
  await daemon.ok("rmi", "passing");
  await untilOnly(daemon, spare, []);
});

describe("a daemon", () => {
  test("that ends in good order leaves nothing of a spare on the machine", async () => {
    await using daemon = await Daemon.start({ args: tellingOfSpares });
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    const unwanted = await spareWaits(daemon, ...plain);
    const id = await daemon.ok("create", ...plain, "busybox", "echo", "started");
    assert.equal(id, unwanted);
    const other = await spareWaits(daemon, "--user", "app", ...plain);
    await daemon.shutDown();
    assert.deepEqual(tracesOf(daemon, id), [`${daemon.stateDir}/containers/${id}`]);
    assert.deepEqual(tracesOf(daemon, other), []);
    assert.deepEqual(processesBelow(daemon.stateDir), []);
    await daemon.launch();
    assert.equal(await daemon.ok("start", "--attach", id), "started");
  });

  test("prepares none where that is turned off", async () => {
    await using daemon = await Daemon.start({ args: tellingOfSpares, env: { SOCKERLESS_SPARES: "false" } });
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    for (let n = 0; n < 3; n++) {
      await daemon.ok("run", "--rm", ...plain, "busybox", "true");
    }
    assert.deepEqual([preparedSpares(daemon), takenSpares(daemon)], [[], []]);
    await untilTrue(() => processesBelow(`${daemon.stateDir}/containers/`).length === 0);
  });
});
