/**
 * Images and containers whose own paths are links to the machine's: nothing on the machine is made, changed or deleted.
 * Each image with all options with SOCKERLESS_SOAK=1 (`npm run soak`), else with each fourth, the next image with the next.
 */
import assert from "node:assert/strict";
import { lstat, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import { runCommand } from "../support/command.ts";
import { callApi } from "../support/call-api.ts";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxImage, dockerArchive } from "../support/images.ts";
import { isSoak, sampled } from "../support/soak.ts";
import { type TarEntry, tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon, docker, ok } = withDaemon();

/** A directory of the machine that links of images and containers lead to. */
let outside = "";
let untouched: string[] = [];

beforeEach(async () => {
  outside = scratchDirectory();
  for (const directory of ["pts", "shm", "mqueue", "cgroup", "sub"]) {
    await mkdir(join(outside, directory));
  }
  for (const file of ["ptmx", "fd", "console", "hosts", "resolv.conf", "mtab", "sub/file"]) {
    await writeFile(join(outside, file), "the machine's");
  }
  untouched = await stateOf(outside);
});
/** Every file beneath a directory with its inode, kind, owner, size and times, but for that of its last reading. */
async function stateOf(directory: string): Promise<string[]> {
  const names = ["", ...(await readdir(directory, { recursive: true }))].toSorted();
  return await Promise.all(
    names.map(async (name) => {
      const { ino, mode, uid, gid, size, mtimeMs, ctimeMs } = await lstat(join(directory, name));
      return [name, ino, mode.toString(8), uid, gid, size, mtimeMs, ctimeMs].join(" ");
    }),
  );
}

async function assertUntouched(after: string): Promise<void> {
  assert.deepEqual(await stateOf(outside), untouched, after);
}

const link = (name: string, linkname: string): TarEntry => ({ name, type: "symlink", linkname, mode: 0o777 });
const directory = (name: string): TarEntry => ({ name: `${name}/`, type: "directory" });

/** An archive of busybox with one more layer. */
async function archiveWith(name: string, entries: readonly TarEntry[]): Promise<Buffer> {
  const busybox = await busyboxImage();
  const image = { ...busybox, layers: [...busybox.layers, await tarOf(entries)] };
  return await dockerArchive([{ image, tags: [`${name}:latest`] }]);
}

async function load(name: string, entries: readonly TarEntry[]): Promise<void> {
  const loaded = await daemon.dockerWith({ input: await archiveWith(name, entries) }, "load");
  assert.equal(loaded.code, 0, loaded.errorText);
}

/** Options with which something more is mounted or made in a container's root. */
const options: readonly (readonly string[])[] = [
  [],
  ["--tty"],
  ["--privileged"],
  ["--init"],
  ["--read-only"],
  ["--network", "none"],
  ["--network", "host"],
  ["--ipc", "host"],
  ["--ipc", "shareable"],
  ["--ipc", "none"],
  ["--pid", "host"],
  ["--cgroupns", "private"],
  ["--workdir", "/dev/made/here"],
  ["--device", "/dev/zero:/dev/made"],
  ["--device", "/dev/zero:/elsewhere/made"],
  ["--volume", "/dev/shm/made"],
  ["--volume", "/elsewhere/made"],
  ["--volume", "/dev"],
  ["--volume", "/sys"],
  ["--volume", "/sys/fs"],
  ["--volume", "/etc"],
  ["--tmpfs", "/dev"],
  ["--tmpfs", "/elsewhere/made"],
  ["--mount", "type=image,source=busybox,target=/elsewhere/made"],
  ["--volume", "/etc/passwd:/elsewhere/passwd:ro"],
  ["--volume", "/etc/passwd:/elsewhere/hosts:ro"],
  ["--volume", "/var/run/docker.sock:/elsewhere/docker.sock"],
  ["--user", "app"],
];

/** The options that an image is tried with. @param turn the image's number */
function optionsOf(turn: number): readonly (readonly string[])[] {
  return options.filter((_, index) => isSoak || (index + turn) % 4 === 0);
}

/** Images that `npm test` tries, of each kind of link one. */
const sample = ["/dev by a relative link", "what is in /etc"];

/** Links of an image that lead to the machine. */
const hostile: Readonly<Record<string, (target: string) => readonly TarEntry[]>> = {
  "/dev": (target) => [link("dev", target)],
  "/dev by a relative link": (target) => [link("dev", `../../../../../../../../../..${target}`)],
  "/dev by two links": (target) => [link("dev", "other"), link("other", target)],
  "what is in /dev": (target) => [
    directory("dev"),
    ...["pts", "shm", "mqueue"].map((name) => link(`dev/${name}`, join(target, name))),
    ...["console", "ptmx", "fd", "null"].map((name) => link(`dev/${name}`, join(target, name))),
  ],
  "/proc": (target) => [link("proc", target)],
  "/sys": (target) => [link("sys", target)],
  "what is in /sys": (target) => [directory("sys"), link("sys/fs", target)],
  "the control groups": (target) => [directory("sys"), directory("sys/fs"), link("sys/fs/cgroup", target)],
  "/etc": (target) => [link("etc", target)],
  "what is in /etc": (target) =>
    ["hosts", "hostname", "resolv.conf", "mtab"].map((name) => link(`etc/${name}`, join(target, name))),
  "other mount points": (target) => [
    link("elsewhere", target),
    link("sbin", target),
    link("var/run", target),
    link("run", target),
  ],
};

describe("an image whose links lead to the machine touches nothing there", () => {
  let number = 0;
  for (const [what, entriesTo] of Object.entries(hostile)) {
    test(`by ${what}`, sampled(sample.includes(what)), async () => {
      const image = `hostile-${++number}`;
      await load(image, entriesTo(outside));
      for (const flags of optionsOf(number)) {
        const { code, errorText } = await docker("run", "--rm", ...flags, image, "true");
        await assertUntouched(`${flags.join(" ")}: ${code} ${errorText}`);
      }
      // As with dockerd, what every container needs is there.
      await ok(
        ...["run", "--rm", image],
        ...["sh", "-c", "test -d /proc/self && test -c /dev/null && test -d /sys/kernel"],
      );
    });
  }

  test("by a link to /dev, where a directory of the user's is mounted", async () => {
    await load("linked", [link("data", "/dev"), link("dev", outside)]);
    for (const flags of [
      ["--volume", "/data"],
      ["--volume", `${outside}/sub:/data`],
      ["--tmpfs", "/data"],
    ]) {
      const { code, errorText } = await docker("run", "--rm", ...flags, "linked", "true");
      await assertUntouched(`${flags.join(" ")}: ${code} ${errorText}`);
    }
  });

  test("when it is copied from or to, exported and committed without having run", async () => {
    await load("still", [link("dev", outside), link("etc", outside), link("elsewhere", outside)]);
    const id = await ok("create", "--volume", "/elsewhere/made", "still", "true");
    const planted = await tarOf([
      { name: "dev/planted", content: "x" },
      { name: "etc/hosts", content: "x" },
      { name: "elsewhere/made/planted", content: "x" },
      { name: "elsewhere/planted", content: "x" },
    ]);
    await daemon.dockerWith({ input: planted }, "cp", "-", `${id}:/`);
    await daemon.dockerWith({ input: planted }, "cp", "-", `${id}:/elsewhere`);
    await assertUntouched("cp to it");
    for (const path of ["/dev/.", "/elsewhere/.", "/elsewhere/ptmx"]) {
      const copied = await docker("cp", `${id}:${path}`, "-");
      assert.doesNotMatch(copied.stdout.toString("latin1"), /the machine's/, path);
    }
    assert.doesNotMatch((await docker("export", id)).stdout.toString("latin1"), /the machine's/);
    await ok("commit", id, "committed");
    assert.doesNotMatch((await docker("save", "committed")).stdout.toString("latin1"), /the machine's/);
    await assertUntouched("reading it");
  });
});

describe("a container that has replaced its own directories by links", () => {
  const replacements: Readonly<Record<string, string>> = {
    "/dev": `umount -l /dev; rm -rf /dev; ln -s $OUTSIDE /dev`,
    "/proc": `umount -l /sys; rm -rf /sys; ln -s $OUTSIDE /sys; umount -l /proc; rm -rf /proc; ln -s $OUTSIDE /proc`,
    "/etc": `for f in hosts hostname resolv.conf; do umount -l /etc/$f; done; cp -r /etc /old; rm -rf /etc; ln -s $OUTSIDE /etc`,
    "what is in /etc": `for f in hosts hostname resolv.conf; do umount -l /etc/$f; rm -f /etc/$f; ln -s $OUTSIDE/$f /etc/$f; done`,
    "where a volume is": `umount -l /data/here; rm -rf /data; ln -s $OUTSIDE /data`,
  };
  for (const [what, script] of Object.entries(replacements)) {
    test(`has nothing of the machine's touched when it starts again: ${what}`, async () => {
      const name = `replaced-${Object.keys(replacements).indexOf(what)}`;
      const run = await docker(
        ...["run", "--name", name, "--privileged", "--env", `OUTSIDE=${outside}`, "--volume", "/data/here"],
        ...["busybox", "sh", "-c", `test -e /ran || { touch /ran; ${script}; }`],
      );
      assert.equal(run.code, 0, run.errorText);
      await assertUntouched("the first run");
      for (let again = 0; again < 2; again++) {
        const started = await docker("start", "--attach", name);
        await assertUntouched(`start: ${started.code} ${started.errorText}`);
        if (!what.includes("/etc")) {
          assert.equal(started.code, 0, started.errorText);
        }
      }
      const changes = await ok("diff", name);
      assert.doesNotMatch(changes, /^. \/(dev|proc|sys)/m);
      await ok("rm", "--force", "--volumes", name);
    });
  }

  test("or has had them replaced by cp", async () => {
    const id = await ok("create", "busybox", "test", "-c", "/dev/null", "-a", "-d", "/proc/self");
    const replaced = await tarOf(["dev", "proc", "sys"].map((name) => link(name, outside)));
    // The docker CLI asks that directories be kept; others need not.
    const copied = await callApi(daemon.socket, "PUT", `/v1.51/containers/${id}/archive?path=/`, {
      body: replaced,
      headers: { "Content-Type": "application/x-tar" },
    });
    assert.equal(copied.status, 200, copied.text);
    const started = await docker("start", "--attach", id);
    await assertUntouched(`start: ${started.code} ${started.errorText}`);
    assert.equal(started.code, 0, started.errorText);
    await ok("rm", id);
  });
});

/** Names in the last layer of an image, as it is saved. */
async function topLayerOf(daemon: Pick<Dockerd, "docker">, image: string): Promise<Set<string>> {
  const { stdout } = await daemon.docker("save", image);
  const extracted = async (name: string) =>
    (await runCommand("tar", ["-xO", name], { input: stdout })).stdout;
  const [{ Layers }] = JSON.parse((await extracted("manifest.json")).toString()) as [{ Layers: string[] }];
  const { text } = await runCommand("tar", ["-t"], { input: await extracted(Layers.at(-1) ?? "") });
  return new Set(text.split("\n"));
}

describe("an image with links where file systems are mounted", () => {
  const dockerd = duringTests(() => Dockerd.startWithBusybox());

  const report =
    "for f in /dev /dev/pts /dev/shm /dev/console /proc /sys /etc /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab; do " +
    "echo $f $(stat -c '%F %a %u %g' $f) $(readlink $f); done; ls /etc; " +
    "awk '{print $2, $3}' /proc/self/mounts | grep -vE 'powercap|interrupts|cpu[0-9]|overlay' | sort";
  let number = 0;
  for (const [what, entriesTo] of Object.entries(hostile)) {
    test(`has there what dockerd lays there: ${what}`, sampled(sample.includes(what)), async () => {
      const image = `laid-${++number}`;
      const input = await archiveWith(image, entriesTo("/usr/target"));
      const told: object[] = [];
      for (const each of [dockerd, daemon]) {
        const loaded = await each.dockerWith({ input }, "load");
        assert.equal(loaded.code, 0, loaded.errorText);
        const args = ["--network", "none", "--name", image, image, "/bin/sh", "-c", report];
        const run = await each.docker("run", ...args);
        const changes = new Set((await each.ok("diff", image)).split("\n"));
        await each.ok("commit", image, `${image}-committed`);
        const committed = await topLayerOf(each, `${image}-committed`);
        await each.ok("rm", image);
        told.push({ code: run.code, text: run.text, changes, committed });
      }
      assert.deepEqual(told[1], told[0]);
    });
  }

  test("fills volumes there as dockerd does", async () => {
    const input = await archiveWith("filling", [directory("dev"), link("dev/tty", "/etc/passwd")]);
    const told: string[] = [];
    for (const each of [dockerd, daemon]) {
      assert.equal((await each.dockerWith({ input }, "load")).code, 0);
      const volumes = (below: string) =>
        ["etc", "dev"].flatMap((name) => ["--volume", `${name}:${below}/${name}`]);
      await each.ok("create", "--network", "none", "--name", "filling", ...volumes(""), "filling");
      const list = "cd /v && find . -exec stat -c '%n %F %a %u %g %s %N' {} + | sort";
      told.push(
        await each.ok("run", "--rm", "--network", "none", ...volumes("/v"), "filling", "sh", "-c", list),
      );
      await each.ok("rm", "filling");
      await each.ok("volume", "rm", "etc", "dev");
    }
    assert.deepEqual(told[1], told[0]);
  });
});
