/** Changes of a container's files, through the real docker CLI: diff, export, commit, history. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { backendUnderTest, quickestNetwork } from "../support/backend-under-test.ts";
import { runCommand } from "../support/command.ts";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { assertDescribed } from "../support/swagger.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, api } = withDaemon();

/** Everything that a container can do to a file of its image. */
const changeEverything = [
  "mkdir -p /new/deep && echo hello > /new/deep/file",
  "echo changed >> /etc/passwd",
  "rm /bin/ls && mkdir /bin/ls && touch /bin/ls/inside",
  "rm -r /root && touch /root",
  "chmod 700 /tmp",
  "rm -r /var && mkdir /var",
  "ln -s /etc/passwd /link && ln /new/deep/file /hard",
  "touch /etc/group && touch /etc/x && rm /etc/x",
  "cp -p /bin/cat /bin/cat2 && mv /bin/cat2 /bin/cat",
].join(" ; ");

/** Directories and files for the script to work on, beside busybox's own. */
const preparation = "mkdir -p /var/a/b /root/x && touch /var/a/f /root/x/y && adduser -D tester; true";

/**
 * Places where something is mounted. On a task they are there, like what mounts need, before anybody sees its
 * files: no change. The host's files are not in them.
 */
const mountPoints = /^A \/(host(\/tmp)?|made\/here|named|sbin(\/docker-init)?|scratch)$/;
const isTold = (change: string): boolean => backendUnderTest() === "local" || !mountPoints.test(change);

const sorted = (text: string): string[] => text.split("\n").sort();

describe("docker diff", () => {
  const dockerd = duringTests(() => Dockerd.startWithBusybox());

  const onOurs = (...args: string[]): Promise<string> =>
    ok(...args.map((arg) => (arg === "none" ? quickestNetwork() : arg)));

  /** Runs the same on both and compares. */
  async function compared(arrange: (docker: (...args: string[]) => Promise<string>) => Promise<void>) {
    const told: string[][] = [];
    for (const run of [(...args: string[]) => dockerd.ok(...args), onOurs]) {
      await arrange(run);
      told.push(sorted(await run("diff", "subject")));
      await run("rm", "-fv", "subject");
    }
    const [theirs, ours] = told;
    assert.deepEqual(ours, theirs?.filter(isTold));
    return ours ?? [];
  }

  test("tells what dockerd tells, of a container that ended", async () => {
    const changes = await compared(async (run) => {
      await run("run", "--network", "none", "--name", "base", "busybox", "sh", "-c", preparation);
      await run("commit", "base", "based");
      await run("rm", "base");
      await run("run", "--network", "none", "--name", "subject", "based", "sh", "-c", changeEverything);
    });
    assert.ok(changes.includes("A /new/deep/file") && changes.includes("D /var/a"), changes.join("\n"));
  });

  test("tells what dockerd tells, of a container that runs, with mounts of all kinds", async () => {
    await compared(async (run) => {
      await run(
        ...["run", "-d", "--network", "none", "--name", "subject", "--init"],
        ...["-v", "/made/here", "-v", "named:/named", "-v", "/tmp:/host/tmp:ro", "--tmpfs", "/scratch"],
        ...["busybox", "sh", "-c", "touch /made/here/x /named/y /scratch/z /beside; sleep 1000"],
      );
      await run("exec", "subject", "sh", "-c", "until test -e /beside; do :; done");
    });
    await ok("volume", "rm", "named");
    await dockerd.ok("volume", "rm", "named");
  });

  test("tells nothing of a container that did nothing", async () => {
    assert.deepEqual(
      await compared(async (run) => {
        await run("create", "--network", "none", "--name", "subject", "busybox", "true");
      }),
      [""],
    );
    assert.deepEqual(
      await compared(async (run) => {
        await run("run", "--network", "none", "--name", "subject", "busybox", "true");
      }),
      [""],
    );
  });

  test("answers as described", async () => {
    await ok("run", "--name", "described", "busybox", "touch", "/x");
    const response = await api.call("GET", "/containers/described/changes");
    assert.equal(response.status, 200);
    const body = JSON.parse(response.text) as unknown;
    assertDescribed("get", "/containers/{id}/changes", 200, body);
    assert.deepEqual(body, [{ Path: "/x", Kind: 1 }]);
    await ok("rm", "described");
    assert.match((await docker("diff", "described")).errorText, /No such container: described/);
  });
});

describe("docker export", () => {
  const listed = async (name: string, ...options: string[]): Promise<string[]> => {
    const exported = await docker("export", name);
    assert.equal(exported.code, 0, exported.errorText);
    const tar = await runCommand("tar", ["-t", ...options], { input: exported.stdout });
    assert.equal(tar.code, 0, tar.errorText);
    return tar.text.split("\n");
  };

  test("gives the whole file system of a running and an ended container, without mounts", async () => {
    await ok(
      ...["run", "-d", "--name=running", "-v", "/data", "busybox"],
      ...["sh", "-c", "touch /data/in /own; sleep 1000"],
    );
    await ok("exec", "running", "sh", "-c", "until test -e /own; do :; done; rm /bin/ls");
    for (const state of ["running", "ended"]) {
      const names = await listed("running");
      assert.ok(names.includes("own") && names.includes("data/") && names.includes("bin/cat"), state);
      assert.ok(!names.includes("data/in") && !names.includes("bin/ls"), state);
      assert.ok(!names.some((name) => /^proc\/.|^sys\/.|\.wh\./.test(name)), state);
      await ok("kill", "running").catch(() => undefined);
      await ok("wait", "running");
    }
    await ok("rm", "-v", "running");
  });

  test("gives the image's file system of a created container, with what was put into it", async () => {
    await ok("create", "--name", "created", "busybox");
    const input = await tarOf([{ name: "put", content: "x" }]);
    assert.equal((await daemon.dockerWith({ input }, "cp", "-", "created:/etc")).code, 0);
    const names = await listed("created");
    assert.ok(names.includes("bin/cat") && names.includes("etc/put"));
    assert.equal(await ok("diff", "created"), "C /etc\nA /etc/put");
    await ok("commit", "created", "committed");
    assert.equal(await ok("run", "--rm", "committed", "cat", "/etc/put"), "x");
    await ok("rmi", "committed");
    await ok("rm", "created");
  });

  test("loses no byte, through commit, save and load either", async () => {
    const script = "head -c 33554432 /dev/urandom > /large; sha256sum < /large";
    const hash = await ok("run", "--name", "large", "busybox", "sh", "-c", script);
    const exported = await docker("export", "large");
    const content = await runCommand("tar", ["-xO", "large"], { input: exported.stdout });
    assert.equal(createHash("sha256").update(content.stdout).digest("hex"), hash.split(" ")[0]);
    await ok("commit", "large", "large");
    const saved = await docker("save", "large");
    await ok("rm", "large");
    await ok("rmi", "large");
    assert.equal((await daemon.dockerWith({ input: saved.stdout }, "load")).code, 0);
    assert.equal(await ok("run", "--rm", "large", "sh", "-c", "sha256sum < /large"), hash);
    await ok("rmi", "large");
  });

  test("makes an image that runs, and is an event", async () => {
    const since = `${Math.floor(Date.now() / 1000) - 1}`;
    await ok("run", "--name", "source", "busybox", "sh", "-c", "echo kept > /kept");
    const exported = await docker("export", "source");
    const imported = await daemon.dockerWith({ input: exported.stdout }, "import", "-", "flat");
    assert.equal(imported.code, 0, imported.errorText);
    assert.equal(await ok("run", "--rm", "flat", "cat", "/kept"), "kept");
    const until = `${Math.floor(Date.now() / 1000) + 1}`;
    const events = await ok("events", `--since=${since}`, `--until=${until}`, "--filter=container=source");
    assert.match(events, / container export /);
    await ok("rm", "source");
    await ok("rmi", "flat");
  });
});

/** Now, to the nanosecond, as `--since` and `--until` take it. */
async function daemonTime(): Promise<string> {
  return await ok("info", "--format", "{{.SystemTime}}");
}

describe("docker commit", () => {
  test("makes an image of what changed, with the container's configuration and changes over it", async () => {
    const since = `${Math.floor(Date.now() / 1000) - 1}`;
    await ok(
      ...["run", "--name=work", "-e", "A=1", "-l", "own=label", "-w", "/tmp", "busybox"],
      ...["sh", "-c", "echo new > /tmp/f; rm /bin/ls"],
    );
    const id = await ok(
      ...[
        "commit",
        "--author",
        "Somebody",
        "--message",
        "what I did",
        "--change",
        "ENV B=2",
        "--change",
        'CMD ["cat", "f"]',
      ],
      ...["work", "saved:1"],
    );
    assert.match(id, /^sha256:[0-9a-f]{64}$/);
    assert.equal(await ok("run", "--rm", "saved:1"), "new");
    assert.notEqual((await docker("run", "--rm", "saved:1", "ls")).code, 0);
    const format =
      "{{.Author}}|{{.Comment}}|{{.Config.Env}}|{{.Config.WorkingDir}}|{{.Config.Labels}}|{{len .RootFS.Layers}}";
    assert.match(
      await ok("image", "inspect", "-f", format, "saved:1"),
      /^Somebody\|what I did\|\[A=1 .*B=2.*\]\|\/tmp\|map\[own:label\]\|3$/,
    );
    const until = `${Math.floor(Date.now() / 1000) + 1}`;
    const told = "--format={{.Type}} {{.Action}}";
    const events = await ok("events", `--since=${since}`, `--until=${until}`, told);
    assert.match(events, /^image create\nimage tag\ncontainer commit$/m);

    const history = (
      await ok("history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Comment}}", "saved:1")
    ).split("\n");
    assert.equal(history[0], `${id}|sh -c echo new > /tmp/f; rm /bin/ls|what I did`);
    const base = await ok("image", "inspect", "--format", "{{.Id}}", "busybox");
    assert.equal(history[1]?.split("|")[0], base); // The image beneath is there, too.
    await ok("rm", "work");
    await ok("rmi", "saved:1");
  });

  test("takes a running container, which goes on, and a second commit on top of the first", async () => {
    await ok("run", "-d", "--name", "live", "busybox", "sh", "-c", "touch /first; sleep 1000");
    await ok("exec", "live", "sh", "-c", "until test -e /first; do :; done");
    const since = await daemonTime();
    await ok("commit", "live", "one");
    const until = await daemonTime();
    const told = ["--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.imageRef}}"];
    assert.deepEqual((await ok("events", "--since", since, "--until", until, ...told)).split("\n"), [
      "container pause <no value>",
      "image create <no value>",
      "image tag <no value>",
      "container commit one:latest",
      "container unpause <no value>",
    ]);
    assert.equal(await ok("exec", "live", "echo", "goes on"), "goes on");
    assert.equal(await ok("inspect", "-f", "{{.State.Status}}", "live"), "running");
    await ok("run", "--name", "next", "one", "sh", "-c", "rm /first; touch /second");
    await ok("commit", "--pause=false", "next", "two");
    assert.equal(
      await ok("run", "--rm", "two", "sh", "-c", "ls -d /first /second 2>/dev/null; true"),
      "/second",
    );
    await ok("rm", "-f", "live", "next");
    await ok("rmi", "one");
    assert.equal(await ok("run", "--rm", "two", "sh", "-c", "ls /second"), "/second");
    await ok("rmi", "two");
  });

  test("answers as described, without a name too, and leaves out a layer of nothing", async () => {
    await ok("create", "--name", "idle", "busybox", "true");
    const response = await api.call("POST", "/commit?container=idle");
    assert.equal(response.status, 201, response.text);
    const body = JSON.parse(response.text) as { Id: string };
    assertDescribed("post", "/commit", 201, body);
    assert.equal(await ok("inspect", "-f", "{{len .RootFS.Layers}}", body.Id), "2"); // busybox's own
    const history = await api.call("GET", `/images/${body.Id}/history`);
    assertDescribed("get", "/images/{name}/history", 200, JSON.parse(history.text));
    await ok("rmi", body.Id);
    await ok("rm", "idle");
  });

  test("refuses what is no container, no name and no change", async () => {
    assert.match((await docker("commit", "nobody")).errorText, /No such container: nobody/);
    await ok("create", "--name", "plain", "busybox");
    assert.match((await docker("commit", "plain", "UPPER")).errorText, /must be lowercase/);
    assert.match(
      (await docker("commit", "-c", "RUN x", "plain")).errorText,
      /RUN is not a valid change command/,
    );
    await ok("rm", "plain");
  });
});
