/** `docker run` and the life of a container, through the real docker CLI. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { sampled } from "../support/soak.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, api } = withDaemon();

/** Waits until a container answers HTTP at one of its addresses. */
const serves = (container: string, address: string) =>
  until(async () =>
    (await docker("exec", container, "wget", "-qO-", `http://${address}/os-release`)).code === 0
      ? true
      : undefined,
  );

describe("docker run", () => {
  test("shows both streams and ends with the process's exit code", async () => {
    const result = await docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42");
    assert.deepEqual([result.text, result.errorText, result.code], ["out", "err", 42]);
  });

  test("passes standard input on and its end", async () => {
    const input = "line\n".repeat(100_000);
    const result = await daemon.dockerWith({ input }, "run", "--rm", "-i", "busybox", "cat");
    assert.equal(result.code, 0, result.errorText);
    assert.ok(result.stdout.equals(Buffer.from(input)));
  });

  test("ends with 128 + n when a signal ended the process", async () => {
    // Process 1 has no default actions for signals: the shell is a child of an init.
    assert.equal((await docker("run", "--rm", "--init", "busybox", "sh", "-c", "kill -TERM $$")).code, 143);
  });

  test("tells a command that does not exist (127) from one that cannot be executed (126)", async () => {
    await ok("network", "create", "named");
    for (const network of ["bridge", "named"]) {
      const run = (command: string) => docker("run", "--rm", "--network", network, "busybox", command);
      const missing = await run("nosuch");
      assert.equal(missing.code, 127);
      const told = missing.errorText.match(/exec: "nosuch": executable file not found in \$PATH: unknown/g);
      assert.equal(told?.length, 1, missing.errorText);
      assert.doesNotMatch(missing.errorText, /Error waiting/);
      const forbidden = await run("/etc/passwd");
      assert.equal(forbidden.code, 126);
      assert.match(forbidden.errorText, /permission denied/);
    }
    await ok("network", "rm", "named");
  });

  test("of a missing image names it and leaves nothing", async () => {
    const result = await docker("run", "--pull=never", "--name", "ghost", "no/such:image");
    assert.equal(result.code, 125);
    assert.match(result.errorText, /No such image: no\/such:image/);
    assert.equal(await ok("ps", "-aq", "--filter", "name=ghost"), "");
  });

  test("gives no process of a container anything of the daemon's environment", async () => {
    await ok("run", "--detach", "--name", "bare", "busybox", "sh", "-c", "env; exec sleep 600");
    const own = await until(async () => (await ok("logs", "bare")) || undefined);
    const texts = [own, await ok("exec", "bare", "env")];
    await ok("rm", "--force", "bare");
    const names = texts.flatMap((text) => text.split("\n").map((line) => line.replace(/=.*/s, "")));
    // A task has what its platform tells it besides.
    const platforms = {
      local: "",
      ecs: "|AWS_\\w+|ECS_\\w+",
      aca: "|CONTAINER_APP_\\w+",
      kubernetes: "|KUBERNETES_\\w+",
    };
    const expected = new RegExp(`^(PATH|HOSTNAME|HOME|PWD|SHLVL${platforms[backendUnderTest()]})$`);
    assert.deepEqual(
      names.filter((name) => !expected.test(name)),
      [],
    );
  });

  test("gives the environment, working directory, user and host name that it is told", async () => {
    const text = await ok(
      ..."run --rm -e GREETING=hello -w /var/tmp -u app:tty --hostname box busybox".split(" "),
      ...["sh", "-c", "echo $GREETING; pwd; id -un; id -gn; echo $HOSTNAME; echo $HOME"],
    );
    assert.deepEqual(text.split("\n"), ["hello", "/var/tmp", "app", "tty", "box", "/home/app"]);
  });

  test("has the kernel's host name", { skip: onlyOn("local", "a task keeps its own") }, async () => {
    assert.equal(await ok("run", "--rm", "--hostname", "box", "busybox", "hostname"), "box");
  });

  test("of an unknown user says so", async () => {
    const result = await docker("run", "--rm", "-u", "stranger", "busybox", "true");
    assert.notEqual(result.code, 0);
    assert.match(result.errorText, /unable to find user stranger: no matching entries in passwd file/);
  });

  test("is known to be in a container by the file that everybody looks for", async () => {
    assert.equal(await ok("run", "--rm", "busybox", "ls", "/.dockerenv"), "/.dockerenv");
  });

  test("has the list of mounts in its old place", {
    skip: onlyOn("local", "a platform makes it or does not"),
  }, async () => {
    assert.equal(await ok("run", "--rm", "busybox", "readlink", "/etc/mtab"), "/proc/mounts");
  });

  test("replaces the entry point", async () => {
    assert.equal(await ok("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b"), "a b");
  });

  test("with --init has a reaping process 1", async () => {
    const text = await ok("run", "--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/comm; exit 0");
    assert.match(text, /docker-init|sockerless/);
    assert.equal((await docker("run", "--rm", "--init", "busybox", "sh", "-c", "exit 9")).code, 9);
  });

  test("with --read-only cannot write but to a tmpfs", async () => {
    const { text, errorText } = await docker(
      ..."run --rm --read-only --tmpfs /scratch:size=1m busybox".split(" "),
      "sh",
      "-c",
      "touch /file 2>&1; touch /scratch/file && echo written; grep ' /scratch ' /proc/mounts",
    );
    if (backendUnderTest() === "aca") {
      assert.match(errorText, /WARNING: the aca backend does not apply --read-only: jobs have no setting/);
      assert.match(errorText, /WARNING: the aca backend does not apply --tmpfs: jobs mount no memory/);
      assert.match(text, /^written$/m);
      return;
    }
    assert.match(text, /Read-only file system/);
    assert.match(text, /^written$/m);
    assert.match(text, /tmpfs.*size=1024k/);
  });

  test("limits memory, processors, processes and open files", {
    skip: onlyOn("local", "sizes of tasks are rounded up and limit the task"),
  }, async () => {
    const script =
      "ulimit -n; for f in memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max; do cat /sys/fs/cgroup/$f 2>/dev/null; done; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
    const text = await ok(
      ..."run --rm --memory 64m --cpus 0.5 --pids-limit 20 --ulimit nofile=100:200 busybox".split(" "),
      "sh",
      "-c",
      script,
    );
    const lines = text.split("\n");
    assert.equal(lines[0], "100");
    assert.ok(lines.includes("67108864"), text);
    assert.ok(lines.includes("50000") || lines.includes("50000 100000"), text);
    assert.ok(lines.includes("20"), text);
  });

  test("adds and drops capabilities", async () => {
    const bounding = async (...flags: string[]): Promise<bigint> => {
      const text = await ok("run", "--rm", ...flags, "busybox", "grep", "CapBnd", "/proc/self/status");
      return BigInt(`0x${text.split("\t")[1]}`);
    };
    assert.equal(await bounding(), 0xa80425fbn);
    assert.equal(await bounding("--cap-drop", "ALL"), 0n);
    assert.equal(await bounding("--cap-drop", "ALL", "--cap-add", "CHOWN"), 1n);
  });

  // Docker's client sends one spelling; others send what their user wrote.
  for (const [field, other, rest] of [
    ["CapDrop", {}, 0xa00425fbn],
    ["CapAdd", { CapDrop: ["ALL"] }, 1n << 27n],
  ] as const) {
    test(
      `takes the same capability for each spelling in ${field}`,
      sampled(backendUnderTest() === "local"),
      async () => {
        for (const name of ["MKNOD", "mknod", "cap_mknod", "CAP_MKNOD", "Cap_MkNod"]) {
          const id = await api.run({
            Cmd: ["grep", "-E", "^Cap(Prm|Eff|Bnd):", "/proc/self/status"],
            HostConfig: { ...other, [field]: [name] },
          });
          assert.equal(await api.wait(id), 0);
          const told = [...(await ok("logs", id)).matchAll(/^Cap\w+:\s*([0-9a-f]+)$/gm)];
          assert.deepEqual(
            told.map(([, bits]) => BigInt(`0x${bits}`)),
            [rest, rest, rest],
            name,
          );
          assert.deepEqual((await api.inspect(id)).HostConfig[field], [name]);
          await api.remove(id);
        }
      },
    );
  }

  test("adds host names and resolvers", async () => {
    const text = await ok(
      ..."run --rm --add-host db:10.1.2.3 --dns 10.9.9.9 --dns-search corp.example busybox".split(" "),
      "cat",
      "/etc/hosts",
      "/etc/resolv.conf",
    );
    assert.match(text, /^10\.1\.2\.3\tdb$/m);
    assert.match(text, /^nameserver 10\.9\.9\.9$/m);
    assert.match(text, /^search corp\.example$/m);
  });

  test("keeps labels, name and command for ps and inspect", async () => {
    await ok("run", "-d", "--name", "labelled", "-l", "team=red", "busybox", "sleep", "1000");
    const line = await ok("ps", "--filter=label=team=red", "--format={{.Names}} {{.Command}} {{.State}}");
    assert.equal(line, 'labelled "sleep 1000" running');
    assert.equal(
      await ok("inspect", "-f", '{{index .Config.Labels "team"}} {{.Path}} {{.Args}}', "labelled"),
      "red sleep [1000]",
    );
    await ok("rm", "-f", "labelled");
  });

  test("mounts named volumes and anonymous ones", async () => {
    await ok("run", "--rm", "-v", "shared:/data", "busybox", "sh", "-c", "echo kept > /data/file");
    assert.equal(await ok("run", "--rm", "-v", "shared:/data:ro", "busybox", "cat", "/data/file"), "kept");
    const refused = await docker("run", "--rm", "-v", "shared:/data:ro", "busybox", "touch", "/data/other");
    assert.match(refused.errorText, /Read-only file system/);
    const before = await ok("volume", "ls", "-q");
    await ok("run", "--rm", "-v", "/anonymous", "busybox", "touch", "/anonymous/file");
    await ok("run", "--rm", "-v", "relative", "busybox", "touch", "/relative/file");
    assert.equal(await ok("volume", "ls", "-q"), before, "--rm takes anonymous volumes along");
    await ok("volume", "rm", "shared");
  });

  test("mounts host directories", { skip: onlyOn("local", "a task has no host") }, async () => {
    const { directory } = daemon;
    await ok("run", "--rm", "-v", `${directory}/made:/host`, "busybox", "touch", "/host/here");
    assert.equal(await ok("run", "--rm", "-v", `${directory}/made:/host`, "busybox", "ls", "/host"), "here");
  });

  test("fills a new named volume with the image's content at its path", {
    skip: onlyOn("local", "what a task mounts hides the image's content from the start"),
  }, async () => {
    assert.match(await ok("run", "--rm", "-v", "etc:/etc", "busybox", "ls", "/etc"), /passwd/);
    await ok("volume", "rm", "etc");
  });

  test("publishes TCP and UDP ports on this machine", async () => {
    await ok(
      ..."run -d --name web -p 127.0.0.1:0:8080/tcp -p 127.0.0.1:0:5353/udp busybox".split(" "),
      ...["sh", "-c", "nc -u -l -p 5353 -e cat & exec httpd -f -p 8080 -h /etc"],
    );
    const tcp = (await ok("port", "web", "8080/tcp")).split(":")[1];
    const answer = await until(async () => {
      const response = await fetch(`http://127.0.0.1:${tcp}/os-release`).catch(() => undefined);
      return response?.ok === true ? await response.text() : undefined;
    });
    assert.equal(answer, "ID=sockerless-test\n");
    assert.match(await ok("port", "web"), /5353\/udp -> 127\.0\.0\.1:\d+/);
    await ok("rm", "-f", "web");
    await assert.rejects(fetch(`http://127.0.0.1:${tcp}/`));
  });

  test("leaves SCTP ports unpublished, and says so or refuses them", async () => {
    const isLocal = backendUnderTest() === "local";
    const named = isLocal ? [] : ["-p", "9/sctp"];
    const run = ["run", "-d", "--name", "sctp", "-P", "--expose", "10/sctp", "--expose", "80", "busybox"];
    const started = await docker(...run.toSpliced(1, 0, ...named), "sleep", "1000");
    assert.equal(started.code, 0, started.errorText);
    assert.match(
      started.errorText,
      /WARNING: the (aca|ecs|kubernetes|local) backend does not apply --publish.* SCTP ports: .* forward/,
    );
    assert.match(daemon.output, /does not apply --publish.* SCTP ports/);
    assert.match(await ok("port", "sctp"), /^80\/tcp -> [^\n]*:\d+(\n80\/tcp -> \[::\]:\d+)?$/);
    assert.match(await ok("ps", "--filter", "name=sctp", "--format", "{{.Ports}}"), /10\/sctp/);
    await ok("rm", "-f", "sctp");
    if (isLocal) {
      const refused = await docker("create", "-p", "9/SCTP", "busybox");
      assert.equal(refused.code, 1);
      assert.match(refused.errorText, /the local backend does not support publishing SCTP ports/);
    }
  });

  test("refuses a port that is taken when the container starts, and starts it later", async () => {
    await ok("run", "-d", "--name", "first", "-p", "127.0.0.1:0:80", "busybox", "sleep", "1000");
    const port = (await ok("port", "first", "80")).split(":")[1];
    await ok("create", "--name", "second", "-p", `127.0.0.1:${port}:80`, "busybox", "sleep", "1000");
    const refused = await docker("start", "second");
    assert.equal(refused.code, 1);
    assert.match(
      refused.errorText,
      new RegExp(`Bind for 127\\.0\\.0\\.1:${port} failed: port is already allocated`),
    );
    assert.match(
      await ok("inspect", "--format={{.State.ExitCode}} {{.State.Error}}", "second"),
      /^128 .*allocated$/,
    );
    const passing = await docker(
      ...["run", "--rm", "--name=third", "-p", `127.0.0.1:${port}:80`, "busybox", "true"],
    );
    assert.equal(passing.code, 125);
    assert.match(passing.errorText, /port is already allocated/);
    await until(async () => ((await docker("inspect", "third")).code === 1 ? true : undefined));
    await ok("rm", "-f", "first");
    await ok("start", "second");
    await ok("rm", "-f", "second");
  });

  test("joins the machine's network, or none", {
    skip: onlyOn("local", "each task has one interface of its own"),
  }, async () => {
    assert.equal(await ok("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"), "lo");
    assert.match(await ok("run", "--rm", "--network", "host", "busybox", "ls", "/sys/class/net"), /^br-/m);
  });

  test("joins another container's network", async () => {
    await ok("run", "-d", "--name", "peer", "busybox", "httpd", "-f", "-p", "127.0.0.1:80", "-h", "/etc");
    if (backendUnderTest() === "aca" || backendUnderTest() === "kubernetes") {
      const refused = await docker("create", "--network", "container:peer", "busybox");
      assert.match(refused.errorText, /the \w+ backend does not support --network container:NAME/);
      await ok("rm", "-f", "peer");
      return;
    }
    await serves("peer", "127.0.0.1");
    const text = await ok(
      "run",
      "--rm",
      "--network=container:peer",
      "busybox",
      "wget",
      "-qO-",
      "http://127.0.0.1/os-release",
    );
    assert.equal(text, "ID=sockerless-test");
    await ok("rm", "-f", "peer");
  });

  test("reaches its neighbours over the bridge by address", {
    skip: onlyOn("local", "addresses in inspect are virtual"),
  }, async () => {
    await ok("run", "-d", "--name", "server", "busybox", "httpd", "-f", "-h", "/etc");
    const address = await ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server");
    assert.match(address, /^(172|192)\.\d+\.\d+\.\d+$/);
    await serves("server", address);
    assert.equal(
      await ok("run", "--rm", "busybox", "wget", "-qO-", `http://${address}/os-release`),
      "ID=sockerless-test",
    );
    await ok("rm", "-f", "server");
  });
});

describe("a container's life", () => {
  test("create, start, stop, start again, remove", async () => {
    const id = await ok("create", "--name", "life", "busybox", "sleep", "1000");
    const status = () => ok("inspect", "-f", "{{.State.Status}}", "life");
    assert.equal(await status(), "created");
    assert.equal(await ok("start", "life"), "life");
    assert.equal(await status(), "running");
    // As process 1 it ignores SIGTERM; where an agent is process 1, it does not, and has its time.
    const [seconds, code] = backendUnderTest() === "local" ? ["1", "137"] : ["60", "143"];
    await ok("stop", "-t", seconds, "life");
    assert.equal(await status(), "exited");
    assert.equal(await ok("inspect", "-f", "{{.State.ExitCode}}", "life"), code);
    await ok("start", "life");
    assert.match(
      (await docker("rm", "life")).errorText,
      /container is running: stop the container before removing or force remove/,
    );
    await ok("rm", "-f", id.slice(0, 12));
    assert.match((await docker("inspect", "life")).errorText, /No such object: life/);
  });

  test("stop sends the stop signal and waits before it kills", async () => {
    await ok(
      ...["run", "-d", "--name=polite", "--stop-signal=USR1", "busybox"],
      ...["sh", "-c", "trap 'exit 5' USR1; echo up; while :; do sleep 0.1; done"],
    );
    await until(async () => ((await ok("logs", "polite")) === "up" ? true : undefined));
    await ok("stop", "--time", "60", "polite");
    assert.equal(await ok("inspect", "-f", "{{.State.ExitCode}}", "polite"), "5");
    await ok("rm", "polite");
  });

  test("kill sends any signal, restart starts anew", async () => {
    await ok("run", "-d", "--name", "killed", "busybox", "sleep", "1000");
    const pid = await ok("inspect", "-f", "{{.State.Pid}}", "killed");
    await ok("restart", "-t", "0", "killed");
    assert.notEqual(await ok("inspect", "-f", "{{.State.Pid}}", "killed"), pid);
    const waiting = ok("wait", "killed");
    await ok("kill", "-s", "KILL", "killed");
    assert.equal(await waiting, "137");
    assert.match(
      (await docker("kill", "killed")).errorText,
      /cannot kill container: killed: container [0-9a-f]{64} is not running/,
    );
    await ok("rm", "killed");
  });

  test("wait before start learns the exit code", async () => {
    await ok("create", "--name", "waited", "busybox", "sh", "-c", "sleep 0.2; exit 6");
    await ok("start", "waited");
    assert.equal(await ok("wait", "waited"), "6");
    assert.equal(await ok("wait", "waited"), "6", "and of an exited one at once");
    await ok("rm", "waited");
  });

  test("a name that is taken is refused in Docker's words", async () => {
    const id = await ok("create", "--name", "taken", "busybox");
    const refused = await docker("create", "--name", "taken", "busybox");
    assert.match(
      refused.errorText,
      new RegExp(
        `Conflict\\. The container name "/taken" is already in use by container "${id}"\\. You have to remove \\(or rename\\) that container to be able to reuse that name\\.`,
      ),
    );
    await ok("rm", "taken");
  });

  test("ps shows running ones, and with -a all, newest first", async () => {
    await ok("run", "-d", "--name", "up", "busybox", "sleep", "1000");
    assert.equal((await docker("run", "--name", "down", "busybox", "sh", "-c", "exit 3")).code, 3);
    assert.equal(await ok("ps", "--format", "{{.Names}}"), "up");
    assert.equal(await ok("ps", "-a", "--format", "{{.Names}}"), "down\nup");
    assert.match(
      await ok("ps", "-a", "--filter", "exited=3", "--format", "{{.Status}}"),
      /^Exited \(3\) .* ago$/,
    );
    assert.match(await ok("ps", "--format", "{{.Status}}"), /^Up /);
    await ok("rm", "-f", "up", "down");
  });

  test("logs: all, the tail, with times, since a time, and following to the end", async () => {
    await ok(
      "run",
      "-d",
      "--name=talker",
      "busybox",
      "sh",
      "-c",
      "echo first >&2; sleep 0.1; for i in 1 2 3 4 5; do echo line $i; done; sleep 0.4; printf partial",
    );
    const followed = await docker("logs", "-f", "talker");
    assert.equal(followed.stdout.toString(), "line 1\nline 2\nline 3\nline 4\nline 5\npartial");
    assert.equal(followed.errorText, "first");
    assert.equal((await docker("logs", "--tail", "2", "talker")).stdout.toString(), "line 5\npartial");
    assert.match(await ok("logs", "-t", "talker"), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 1$/m);
    assert.equal(await ok("logs", "--since", "1h", "--tail", "1", "talker"), "partial");
    assert.equal(await ok("logs", "--until", "1h", "talker"), "");
    await ok("rm", "talker");
  });

  test("events tell a run from create to destroy", async () => {
    const since = String(Date.now() / 1000 - 1);
    assert.equal((await docker("run", "--rm", "--name", "story", "busybox", "sh", "-c", "exit 4")).code, 4);
    await until(async () => ((await docker("inspect", "story")).code === 0 ? undefined : true));
    const lines = await ok(
      ...["events", `--since=${since}`, `--until=${Date.now() / 1000}`, "--filter=container=story"],
      "--format={{.Action}} {{.Actor.Attributes.exitCode}}",
    );
    const told = lines.split("\n").map((line) => line.replace(" <no value>", ""));
    assert.deepEqual(told, ["create", "attach", "start", "die 4", "destroy"]);
  });
});
