/** Volumes on ECS: the docker CLI before a simulated AWS whose tasks and file systems are real. */
import assert from "node:assert/strict";
import { cp, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { type AccessPointDescription, DescribeAccessPointsCommand, EFSClient } from "@aws-sdk/client-efs";
import { DescribeTaskDefinitionCommand, ECSClient } from "@aws-sdk/client-ecs";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { inSoak } from "../support/soak.ts";
import { tarOf } from "../support/tar.ts";

describe("volumes on ECS", () => {
  const under = duringTests(() => EcsDaemon.start({ leastPrivilege: true }));
  const efs = duringTests(async () => new EFSClient(under.aws.clientConfig));
  const ecs = duringTests(async () => new ECSClient(under.aws.clientConfig));

  async function accessPoints(volume: string): Promise<AccessPointDescription[]> {
    const { AccessPoints = [] } = await efs.send(new DescribeAccessPointsCommand({}));
    return AccessPoints.filter(({ Tags }) =>
      Tags?.some(({ Key, Value }) => Key === "sockerless-volume" && Value === volume),
    );
  }
  async function inspected(volume: string): Promise<Record<string, unknown>> {
    return JSON.parse(await under.daemon.ok("volume", "inspect", volume))[0];
  }
  /** The definition of the last task that was asked for. */
  async function lastDefinition() {
    const { input } = under.aws.calls.all("ecs.RunTask").at(-1) ?? { input: {} };
    const { taskDefinition } = input as { taskDefinition?: string };
    return (await ecs.send(new DescribeTaskDefinitionCommand({ taskDefinition }))).taskDefinition;
  }

  it("are access points on the configured file system, shown as Docker shows volumes", async () => {
    const { daemon, aws } = under;
    assert.equal(
      (await daemon.ok("volume", "create", "--label", "managed=true", "runner-cache")).trim(),
      "runner-cache",
    );
    const [point, ...others] = await accessPoints("runner-cache");
    assert.deepEqual(others, []);
    assert.equal(point?.FileSystemId, aws.account.fileSystem.fileSystemId);
    assert.deepEqual([point?.PosixUser?.Uid, point?.PosixUser?.Gid], [0, 0]);
    assert.deepEqual(point?.RootDirectory, {
      Path: "/sockerless/volumes/runner-cache",
      CreationInfo: { OwnerUid: 0, OwnerGid: 0, Permissions: "0755" },
    });
    const { CreatedAt, ...shown } = await inspected("runner-cache");
    assert.deepEqual(shown, {
      Driver: "local",
      Labels: { managed: "true" },
      Mountpoint: "/var/lib/docker/volumes/runner-cache/_data",
      Name: "runner-cache",
      Options: null,
      Scope: "local",
    });
    assert.match(String(CreatedAt), /^\d{4}-\d\d-\d\dT/);
  });

  it("answer a creation of a name that exists with the volume as it is", async () => {
    const { daemon, aws } = under;
    const create = (labels: object) =>
      callApi(daemon.socket, "POST", "/v1.51/volumes/create", { body: { Name: "twice", Labels: labels } });
    const first = await create({ of: "the first" });
    const made = aws.calls.count("efs.CreateAccessPoint");
    const second = await create({ of: "the second" });
    assert.deepEqual([first.status, second.status], [201, 201]);
    assert.deepEqual(second.json(), first.json());
    assert.deepEqual((await inspected("twice"))["Labels"], { of: "the first" });
    assert.equal(aws.calls.count("efs.CreateAccessPoint"), made);
    await daemon.ok("volume", "rm", "twice");
  });

  it("are listed by name, label and driver", async () => {
    const { daemon } = under;
    await daemon.ok("volume", "create", "--label", "stage=test", "listed-one");
    await daemon.ok("volume", "create", "listed-two");
    const names = async (...filters: string[]) =>
      (await daemon.ok("volume", "ls", "--quiet", ...filters.flatMap((each) => ["--filter", each])))
        .split("\n")
        .filter((name) => name !== "");
    assert.deepEqual(await names("name=listed"), ["listed-one", "listed-two"]);
    assert.deepEqual(await names("label=stage"), ["listed-one"]);
    assert.deepEqual(await names("label=stage=test"), ["listed-one"]);
    assert.deepEqual(await names("label=stage=other"), []);
    assert.deepEqual(await names("name=listed", "driver=local"), ["listed-one", "listed-two"]);
    assert.deepEqual(await names("driver=nfs"), []);
    assert.deepEqual((await daemon.docker("volume", "inspect", "no-such")).code, 1);
    const told = (await callApi(daemon.socket, "GET", "/v1.51/volumes")).json() as { Warnings: unknown };
    assert.deepEqual(told.Warnings, []);
  });

  it("are of the driver efs by that name too, and of a driver that needs a machine are refused with what to use", async () => {
    const { daemon } = under;
    await daemon.ok("volume", "create", "--driver", "efs", "by-name");
    assert.equal((await accessPoints("by-name")).length, 1);
    assert.equal((await inspected("by-name"))["Driver"], "efs");
    await daemon.ok("volume", "rm", "by-name");
    for (const [driver, reason] of [
      ["block", /plugin "block" not found: an EBS volume .* is new each time, .*: use --driver efs/],
      ["tmpfs", /plugin "tmpfs" not found: tasks share no memory: use --tmpfs/],
      ["nfs", /plugin "nfs" not found: the volume drivers here are local, efs/],
    ] as const) {
      const { code, errorText } = await daemon.docker("volume", "create", "--driver", driver, "of-machine");
      assert.notEqual(code, 0);
      assert.match(errorText, reason);
    }
  });

  it("hand files from one task to the next, through mounts as the definition says", async () => {
    const { daemon } = under;
    await daemon.ok("run", "--volume", "build:/builds", "busybox", "sh", "-c", "echo cloned > /builds/code");
    const built = await daemon.ok(
      ...["run", "--volume", "build:/src:ro", "busybox"],
      ...["sh", "-c", "cat /src/code; touch /src/x || echo read-only"],
    );
    assert.equal(built, "cloned\nread-only");
    const [point] = await accessPoints("build");
    const definition = await lastDefinition();
    const volume = definition?.volumes?.find(({ name }) => name === "vol-build");
    assert.deepEqual(volume?.efsVolumeConfiguration, {
      fileSystemId: under.aws.account.fileSystem.fileSystemId,
      rootDirectory: "/",
      transitEncryption: "ENABLED",
      authorizationConfig: { accessPointId: point?.AccessPointId, iam: "ENABLED" },
    });
  });

  it("are mount points of the definition, to be written or only read", async () => {
    const { daemon } = under;
    const volumes = ["--volume", "points-one:/one", "--volume", "points-two:/deep/two:ro"];
    await daemon.ok("run", "--rm", ...volumes, "busybox", "true");
    const definition = await lastDefinition();
    const main = definition?.containerDefinitions?.find(({ name }) => name === "main");
    const points = main?.mountPoints?.filter(({ sourceVolume }) => sourceVolume?.startsWith("vol-points-"));
    assert.deepEqual(points, [
      { sourceVolume: "vol-points-one", containerPath: "/one", readOnly: false },
      { sourceVolume: "vol-points-two", containerPath: "/deep/two", readOnly: true },
    ]);
    await daemon.ok("volume", "rm", "points-one", "points-two");
  });

  it("are taken over from another container", async () => {
    const { daemon } = under;
    await daemon.ok(
      ...["create", "--name", "helper", "--volume", "handed:/data", "--volume", "more:/more:ro", "busybox"],
      "true",
    );
    const script = "echo here > /data/file; cat /data/file; touch /more/x || echo read-only";
    assert.equal(
      await daemon.ok("run", "--volumes-from", "helper", "busybox", "sh", "-c", script),
      "here\nread-only",
    );
    await daemon.ok("rm", "helper");
  });

  it("are of the task alone where they have no name, and paths of a host are not applied", async () => {
    const { daemon, aws } = under;
    const before = aws.calls.count("efs.CreateAccessPoint");
    const script =
      "echo mine > /var/tmp/file && cat /var/tmp/file && ls /host /var/run/docker.sock 2>&1 | wc -l";
    const volumes = [
      ...["--volume", "/var/tmp", "--volume", "/tmp/of-the-host:/host"],
      ...["--volume", "/var/run/docker.sock:/var/run/docker.sock"],
    ];
    assert.equal(await daemon.ok("run", ...volumes, "busybox", "sh", "-c", script), "mine\n2");
    assert.equal(aws.calls.count("efs.CreateAccessPoint"), before);
    const notApplied = /the ecs backend does not apply host paths/;
    assert.match(daemon.output, notApplied);
    for (const HostConfig of [
      { Binds: ["/tmp/of-the-host:/host"] },
      { Binds: ["/tmp/of-the-host:/host"] },
      { Binds: ["/var/run/docker.sock:/var/run/docker.sock"] },
      { Mounts: [{ Type: "bind", Source: "/var/run/docker.sock", Target: "/var/run/docker.sock" }] },
    ]) {
      const body = { Image: "busybox", HostConfig };
      const created = await callApi(daemon.socket, "POST", "/v1.51/containers/create", { body });
      const { Id, Warnings } = created.json() as { Id: string; Warnings: string[] };
      assert.match(Warnings.join("\n"), notApplied, JSON.stringify(HostConfig));
      await daemon.ok("rm", Id);
    }
  });

  it("are not removed while a running container has them, unless by force, and stopped ones do not count", async () => {
    const { daemon } = under;
    const script = "echo kept > /data/file; sleep 1000";
    const id = await daemon.ok("run", "--detach", "--volume", "busy:/data", "busybox", "sh", "-c", script);
    const refused = await daemon.docker("volume", "rm", "busy");
    assert.equal(refused.code, 1);
    assert.match(refused.errorText, new RegExp(`remove busy: volume is in use - \\[${id}\\]`));
    await daemon.ok("create", "--name", "later", "--volume", "busy:/data", "busybox", "true");
    await daemon.ok("volume", "rm", "--force", "busy");
    assert.deepEqual(await accessPoints("busy"), []);
    assert.equal((await daemon.docker("volume", "inspect", "busy")).code, 1);
    // A container that is connected stays so: AWS takes no mount away from a task.
    assert.equal(await daemon.ok("exec", id, "cat", "/data/file"), "kept");
    const late = await daemon.docker("start", "later");
    assert.equal(late.code, 1);
    assert.match(late.errorText, /get busy: no such volume/);
    await daemon.ok("rm", "--force", id, "later");
    await daemon.ok("run", "--name", "past", "--volume", "stopped:/data", "busybox", "true");
    await daemon.ok("volume", "rm", "stopped");
    await daemon.ok("rm", "past");
  });

  it("leave their files on the file system when they are removed", async () => {
    const { daemon } = under;
    await daemon.ok("run", "--rm", "--volume", "kept:/data", "busybox", "sh", "-c", "echo old > /data/file");
    await daemon.ok("volume", "rm", "kept");
    assert.equal(
      await daemon.ok("run", "--rm", "--volume", "kept:/data", "busybox", "cat", "/data/file"),
      "old",
    );
  });

  it("belong to root unless posix_user=none leaves users as they are, which images that check owners need", async () => {
    const { daemon } = under;
    // The script does as the entry point of postgres: it owns the directory, becomes somebody, and checks.
    const check = '[ "$(stat -c %u /data)" = 1000 ] && touch /data/PG_VERSION && echo owned || echo refused';
    const script = `chown 1000:1000 /data; echo pg:x:1000:1000::/:/bin/sh >> /etc/passwd; su pg -c '${check}'`;
    assert.equal(
      await daemon.ok("run", "--rm", "--volume", "forced:/data", "busybox", "sh", "-c", script),
      "refused",
    );
    await daemon.ok("volume", "create", "--opt", "posix_user=none", "postgres");
    assert.equal((await accessPoints("postgres"))[0]?.PosixUser, undefined);
    assert.equal(
      await daemon.ok("run", "--rm", "--volume", "postgres:/data", "busybox", "sh", "-c", script),
      "owned",
    );
  });

  it("are copied into whoever owns the files, who is root there, before the start and after it", async () => {
    const { daemon } = under;
    const input = await tarOf([
      { name: "owned/", type: "directory", uid: 1000, gid: 1000 },
      { name: "owned/file", content: "content", uid: 1000, gid: 1000, mode: 0o4640 },
      { name: "owned/link", type: "symlink", linkname: "file", uid: 1000, gid: 1000 },
      { name: "owned/last", content: "last", uid: 1000, gid: 1000 },
    ]);
    await daemon.ok("create", "--name", "copied", "--volume", "owners:/data", "busybox", "sleep", "1000");
    const copy = async (to: string): Promise<void> => {
      const { code, errorText } = await daemon.dockerWith({ input }, "cp", "-", `copied:${to}`);
      assert.equal(code, 0, errorText);
    };
    await copy("/data");
    await daemon.ok("start", "copied");
    await daemon.ok("exec", "copied", "mkdir", "/data/later");
    await copy("/data/later");
    for (const there of ["/data/owned", "/data/later/owned"]) {
      assert.equal(
        await daemon.ok("exec", "copied", "stat", "-c", "%u:%g %a", `${there}/file`, `${there}/link`),
        "0:0 640\n0:0 777",
      );
      assert.equal(await daemon.ok("exec", "copied", "cat", `${there}/last`), "last");
    }
    await copy("/tmp");
    assert.equal(
      await daemon.ok("exec", "copied", "stat", "-c", "%u:%g %a", "/tmp/owned/file"),
      "1000:1000 4640",
    );
    await daemon.ok("rm", "--force", "copied");
  });

  it("fail with 500 and AWS's words where the file system refuses", async () => {
    const { daemon, aws } = under;
    const removeFault = aws.faults.add({
      on: "efs.CreateAccessPoint",
      times: 2,
      error: { code: "FileSystemNotFound", message: "File system 'fs-1' does not exist.", status: 404 },
    });
    const { code, errorText } = await daemon.docker("volume", "create", "refused");
    assert.equal(code, 1);
    assert.match(
      errorText,
      /create refused: efs: CreateAccessPoint: File system 'fs-1' does not exist\. \(FileSystemNotFound\)/,
    );
    const answer = await callApi(daemon.socket, "POST", "/volumes/create", { body: { Name: "refused" } });
    assert.equal(answer.status, 500);
    assert.match(answer.text, /File system 'fs-1' does not exist\. \(FileSystemNotFound\)/);
    removeFault();
    assert.equal((await daemon.docker("volume", "inspect", "refused")).code, 1);
  });

  it("are mounted in part by an access point of the part, which goes with its volume", async () => {
    const { daemon } = under;
    const part = (...more: string[]) => [
      "--mount",
      ["type=volume", "source=whole", "target=/part", ...more].join(","),
    ];
    const missing = await daemon.docker("run", ...part("volume-subpath=logs"), "busybox", "true");
    assert.equal(missing.code, 125);
    assert.match(
      missing.errorText,
      /cannot access path \/var\/lib\/docker\/volumes\/whole\/_data\/logs: no such/,
    );
    const fill = "mkdir /data/logs && echo line > /data/logs/file && echo secret > /data/other";
    await daemon.ok("run", "--volume", "whole:/data", "busybox", "sh", "-c", fill);
    const look = "ls /part; cat /part/file; touch /part/x || echo refused";
    await daemon.ok(
      ...["create", "--name", "parted", ...part("volume-subpath=./logs", "readonly"), "busybox", "true"],
    );
    assert.equal(
      await daemon.ok("run", "--volumes-from", "parted", "busybox", "sh", "-c", look),
      "file\nline\nrefused",
    );
    const points = await accessPoints("whole");
    assert.deepEqual(
      new Set(points.map(({ RootDirectory }) => RootDirectory?.Path)),
      new Set(["/sockerless/volumes/whole", "/sockerless/volumes/whole/logs"]),
    );
    const deep = await daemon.docker("create", ...part("volume-subpath=a/b"), "busybox", "true");
    assert.match(deep.errorText, /at most 4 directories deep/);
    await daemon.ok("rm", "parted");
    await daemon.ok("volume", "rm", "whole");
    assert.deepEqual(await accessPoints("whole"), []);
  });

  it("have images beside them, whose files are put into the task before its process starts", async () => {
    const { daemon } = under;
    const script = "mkdir -p /tool/bin && echo v1 > /tool/bin/version && ln -s /tool /current";
    await daemon.ok("run", "--name", "maker", "busybox", "sh", "-c", script);
    await daemon.ok("commit", "maker", "tools:1");
    const mount = (target: string, more = "") => [
      "--mount",
      `type=image,source=tools:1,target=${target}${more}`,
    ];
    const look =
      "cat /a/tool/bin/version /b/version; readlink /a/current; touch /a/x || echo refused; ls -A /a/proc /a/.sockerless";
    const shown = await daemon.docker(
      "run",
      ...mount("/a"),
      ...mount("/b", ",image-subpath=current/bin"),
      ...["busybox", "sh", "-c", look],
    );
    assert.match(shown.text, /^v1\nv1\n\/tool\nrefused\n(\/a\/proc:)?$/, shown.errorText);
    const missing = await daemon.docker("run", ...mount("/a", ",image-subpath=none"), "busybox", "true");
    assert.equal(missing.code, 125);
    assert.match(missing.errorText, /the image has no path none/);
    const nine = Array.from({ length: 9 }, (_, at) => mount(`/mnt/${at}`, `,image-subpath=${at}`)).flat();
    const many = await daemon.docker("create", ...nine, "busybox", "true");
    assert.match(many.errorText, /can mount 8 images, not 9/);
  });

  it("come back with their labels when the state is lost, as networks do", async () => {
    const { daemon } = under;
    await daemon.ok("volume", "create", "--label", "managed=true", "--opt", "posix_user=none", "survivor");
    await daemon.ok("network", "create", "--label", "project=shop", "surviving");
    const format = "{{.Id}} {{.Labels}} {{.IPAM.Config}}";
    const network = () => daemon.ok("network", "inspect", "--format", format, "surviving");
    const before = [await inspected("survivor"), await network()];
    await daemon.shutDown();
    await rename(daemon.stateDir, `${daemon.stateDir}.lost`);
    await daemon.launch();
    assert.deepEqual([await inspected("survivor"), await network()], before);
    await daemon.ok("network", "rm", "surviving");
  });

  it("that no state knows are shown by gc, and removed where that is asked for", inSoak, async () => {
    const { daemon, aws, directory } = under;
    const copy = join(daemon.directory, "copy");
    const collect = async (...options: string[]): Promise<string[]> => {
      const program = join(checkout, "dist/bundle/cli/main.js");
      const config = ["--config", join(directory, "config.yaml"), "--state-dir", daemon.stateDir];
      const { code, text, errorText } = await runCommand(
        process.execPath,
        [program, "gc", "--backend=ecs", ...config, "--run-dir", daemon.runDir, ...options],
        { env: { ...process.env, ...aws.environmentFor() } },
      );
      assert.equal(code, 0, errorText);
      return text.split("\n").filter((line) => /orphan|network/.test(line));
    };
    await daemon.shutDown();
    await cp(daemon.stateDir, copy, { recursive: true });
    await daemon.launch();
    await daemon.ok("volume", "create", "orphan");
    await daemon.ok("network", "create", "orphaned");
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await rename(copy, daemon.stateDir);

    const found = await collect();
    assert.equal(found.length, 2);
    assert.ok(found.every((line) => line.startsWith("found: ")));
    assert.equal((await accessPoints("orphan")).length, 1);
    assert.deepEqual(
      await collect("--remove"),
      found.map((line) => line.replace("found", "removed")),
    );
    assert.deepEqual(await accessPoints("orphan"), []);
    assert.deepEqual(await collect(), []);
    assert.equal((await accessPoints("survivor")).length, 1, "what the state knows is left");
    await daemon.launch();
  });

  it("need no more than the documented policy", () => {
    assert.deepEqual(under.deniedCalls, []);
  });
});

describe("volumes on ECS without a file system", inSoak, () => {
  it("are known by name and are of the task alone, which is told", async () => {
    const without = { efs_filesystem_id: undefined, efs_security_group_id: undefined };
    await using under = await EcsDaemon.start({ ecs: without });
    const { daemon, aws } = under;
    await daemon.ok("volume", "create", "named");
    assert.match(await daemon.ok("volume", "ls", "--quiet"), /^named$/m);
    const run = (script: string) =>
      daemon.ok("run", "--rm", "--volume", "named:/data", "busybox", "sh", "-c", script);
    assert.equal(await run("echo here > /data/file; cat /data/file"), "here");
    assert.equal(await run("ls -A /data"), "", "the next task has another directory");
    await daemon.ok("volume", "rm", "named");
    assert.equal(aws.calls.count("efs.CreateAccessPoint"), 0);
    assert.match(daemon.output, /efs_filesystem_id is not set: containers will not share this volume/);
  });
});

describe("volumes on a file system that lets only roles in", inSoak, () => {
  it("are not mounted by a backend that is not told to use the role, and the start says why", async () => {
    await using under = await EcsDaemon.start({ leastPrivilege: true, ecs: { efs_iam: false } });
    const { code, errorText } = await under.daemon.docker(
      ...["run", "--rm", "-v", "data:/data", "busybox", "true"],
    );
    assert.notEqual(code, 0);
    assert.match(errorText, /failed to invoke EFS utils commands.*access denied by server/s);
  });
});
