/** Mounts and devices that lie in what is bound into a container: as under a real dockerd, while others may change what is there. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();
const dockerd = duringTests(() => Dockerd.startWithBusybox());
const machine = scratchDirectory();

before(async () => {
  await mkdir(join(machine, "sub", "deep"), { recursive: true });
  await mkdir(join(machine, "sub", "private"), { mode: 0o700 });
  await writeFile(join(machine, "file"), "a file of the machine\n");
  await writeFile(join(machine, "program"), "#!/bin/sh\npwd; cat /v/made/file\n", { mode: 0o755 });
});

describe("a mount in something that is bound", () => {
  /** Options before the image, with `$` for the directory of the machine, and what is run. */
  const cases: Readonly<Record<string, readonly [options: string, script: string]>> = {
    "a directory that is not there": ["-v vol:/v -v $/sub:/v/made/deep", "ls -R /v"],
    "a file that is not there": [
      "-v vol:/v -v $/file:/v/made/file:ro",
      "cat /v/made/file; echo x > /v/made/file",
    ],
    "a volume in a volume, filled": ["-v vol:/v -v other:/v/etc", "echo x > /v/etc/x; ls /v/etc"],
    "the working directory": ["-v vol:/v -v $/sub:/v/made -w /v/made", "pwd; ls"],
    "file systems in memory": [
      "-v $:/v --tmpfs /v/sub/private --tmpfs /v/new:exec,size=1m,mode=711",
      "touch /v/new/x; stat -c '%a %F' /v/sub/private /v/new",
    ],
    "a read-only one, and one in it": [
      "-v $:/v:ro -v other:/v/sub -v $/file:/v/sub/deep/file",
      "touch /v/x; touch /v/sub/x",
    ],
    "one in a read-only one without a place": ["-v $:/v:ro -v other:/v/nowhere", "true"],
    "the name files": [
      "-v names:/etc -h box --add-host a:1.2.3.4",
      "cat /etc/hostname; grep 1.2.3.4 /etc/hosts",
    ],
    "a private one": [
      "-v vol:/v -v $/sub:/v/made:private",
      "awk '$5 ~ /made/ {print $7 != \"-\"}' /proc/self/mountinfo",
    ],
    devices: [
      "-v vol:/v -v $/sub:/v/made --device /dev/null:/v/new/null --device /dev/zero:/v/made/zero:r",
      "echo x > /v/new/null; echo x > /v/made/zero; stat -c '%n %a %F %t %T %u %g' /v/new/null /v/made/zero; rm /v/made/zero",
    ],
    "a device in a read-only one": ["-v $:/v:ro --device /dev/null:/v/null", "true"],
    "with a read-only root": [
      "--read-only -v vol:/v -v $/sub:/v/made --tmpfs /v/t",
      "touch /v/x /v/made/x /v/t/x",
    ],
  };
  for (const [what, [options, script]] of Object.entries(cases)) {
    test(`is as under dockerd: ${what}`, async () => {
      const mounts =
        "; sed -n 's/^[^ ]* \\(.*\\) 0 0$/\\1/p' /proc/self/mounts | grep -E '^/(v|sbin)' | sort";
      const told: object[] = [];
      for (const each of [dockerd, daemon]) {
        const flags = options.replaceAll("$", machine).split(" ");
        const run = await each.docker(
          "run",
          "--rm",
          "--network",
          "none",
          ...flags,
          "busybox",
          "sh",
          "-c",
          script + mounts,
        );
        const text = run.text.replaceAll(/,inode64|,mode=700$/gm, ""); // newer runtimes tell the mode
        told.push({ code: run.code, text, refused: run.code === 0 ? run.errorText : "" });
        await each.docker("volume", "rm", "vol", "other", "names", "programs");
      }
      assert.deepEqual(told[1], told[0]);
    });
  }

  test("may hold the command", async () => {
    const mounts = [
      "-v",
      "vol:/v",
      "-v",
      `${machine}/program:/v/made/program`,
      "-v",
      `${machine}/file:/v/made/file`,
    ];
    const run = await daemon.ok("run", "--rm", ...mounts, "-w", "/v/made", "busybox", "/v/made/program");
    assert.equal(run, "/v/made\na file of the machine");
  });

  test("may be the init", async () => {
    const mounts = ["-v", "programs:/sbin"];
    assert.equal(
      await daemon.ok("run", "--rm", "--init", ...mounts, "busybox", "cat", "/proc/1/comm"),
      "docker-init",
    );
  });

  test("is not mounted on /proc by a link of the volume's", async () => {
    await daemon.ok("run", "--rm", "-v", "led:/v", "busybox", "ln", "-s", "/proc/self", "/v/link");
    const run = await daemon.docker(
      ...["run", "--rm", "-v", "led:/v", "-v", "other:/v/link/attr", "busybox", "true"],
    );
    assert.notEqual(run.code, 0);
    assert.match(run.errorText, /cannot be mounted because it is inside \/proc/);
  });
});
