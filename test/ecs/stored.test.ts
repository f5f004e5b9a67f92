/** Logs and files of containers on ECS that do not run: the docker CLI before a simulated AWS. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, it } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { inSoak } from "../support/soak.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The pause lets the agent read standard error first: which of two streams it reads first is chance. */
const script = "echo two >&2; sleep 1; echo one; echo '[stderr] three'; printf four";

describe("containers on ECS that do not run", () => {
  const under = duringTests(async () =>
    EcsDaemon.start({
      ...{ leastPrivilege: true, ecs: { linger: "5s", drain_timeout: "1s" } },
      daemon: { env: await testBuildEnv(step()) },
    }),
  );
  const directory = scratchDirectory();

  /** Names the step at which the backend dies. */
  const step = (): string => join(directory, "step");

  /** Until nothing of a container is left in AWS but its log. */
  async function gone(container: string): Promise<void> {
    await untilTrue(async () => {
      const { errorText } = await under.daemon.docker("cp", `${container}:/etc/passwd`, "-");
      return errorText.includes("ecs.linger");
    });
  }

  it("have their logs as they were written, long after their task has gone", async () => {
    const { daemon, aws } = under;
    await daemon.ok("run", "--detach", "--name", "logged", "busybox", "sh", "-c", script);
    await daemon.ok("wait", "logged");
    await gone("logged");
    const { stdout, stderr } = await daemon.docker("logs", "logged");
    assert.equal(stdout.toString(), "one\n[stderr] three\nfour");
    assert.equal(stderr.toString(), "two\n");
    assert.equal((await daemon.docker("logs", "--tail", "1", "logged")).stdout.toString(), "four");
    const timed = (await daemon.docker("logs", "--timestamps", "--tail", "1", "logged")).stdout.toString();
    assert.match(timed, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z four$/);
    assert.equal((await daemon.docker("logs", "--since", "1h", "--follow", "logged")).code, 0);
    assert.equal(aws.calls.count("logs.GetLogEvents"), 0);
    await daemon.ok("rm", "logged");
  });

  it(
    "have the log that a backend had taken when it was killed, though their agent has left since",
    inSoak,
    async () => {
      const { daemon, aws } = under;
      const id = await daemon.ok(
        ...["run", "--detach", "--name=cut", "busybox", "sh", "-c", "echo taken; sleep 1000"],
      );
      await untilTrue(async () => (await daemon.ok("logs", "cut")) === "taken");
      const task = aws.ecs.tasks.find(({ state }) => JSON.stringify(state.overrides).includes(id));
      await writeFile(step(), "logs.drain.after");
      process.kill(daemon.pid, "SIGSTOP"); // The supervisor, so that no backend comes back as long as the agent is there.
      const killing = daemon.docker("kill", "cut"); // It waits for the next backend if it is not answered.
      try {
        await untilTrue(() => !existsSync(step()));
        assert.ok(task, "no task");
        await task.finished;
        const stream = `sockerless/main/${task.state.taskArn?.split("/").at(-1)}`;
        aws.services.logs.putLines("/sockerless/containers", stream, ["only in the cloud"]);
      } finally {
        process.kill(daemon.pid, "SIGCONT");
        await killing;
      }
      await untilTrue(
        async () => (await daemon.docker("inspect", "--format={{.State.Status}}", "cut")).text === "exited",
      );
      await gone("cut");
      assert.equal(await daemon.ok("logs", "cut"), "taken");
      await daemon.ok("rm", "cut");
    },
  );

  it("have the logs of all their runs, whether these were of one task or of several", inSoak, async () => {
    const { daemon } = under;
    await daemon.ok("create", "--name", "again", "busybox", "sh", "-c", "echo run; exec sleep 1000");
    const printed = (runs: number) => async (): Promise<boolean> =>
      (await daemon.ok("logs", "again")) === Array(runs).fill("run").join("\n");
    for (const run of [1, 2]) {
      await daemon.ok("start", "again");
      await untilTrue(printed(run)); // The second runs in a task of its own.
      assert.equal(await daemon.ok("logs", "--tail", "1", "again"), "run");
      assert.equal(await daemon.ok("logs", "--tail", "2", "again"), Array(run).fill("run").join("\n"));
      await daemon.ok("kill", "again");
      await untilTrue(printed(run));
      await gone("again");
    }
    assert.ok(await printed(2)());
    await daemon.ok("rm", "again");
  });

  it("have the files that were put into them before their start, once it comes", inSoak, async () => {
    const { daemon } = under;
    const file = join(directory, "script.sh");
    await writeFile(file, "echo from a file\n");
    const command = ["sh", "-c", "sh /tmp/script.sh; sleep 1000"];
    await daemon.ok("create", "--name", "staged", "busybox", ...command);
    await daemon.ok("cp", file, "staged:/tmp/script.sh");
    // Into a directory that the image has: the client looks for it first.
    await daemon.ok("cp", directory, "staged:/var/tmp");
    const other = join("/var/tmp", basename(directory), "script.sh");
    await daemon.ok("cp", `staged:${other}`, join(directory, "before.sh"));
    assert.equal(await readFile(join(directory, "before.sh"), "utf8"), "echo from a file\n");
    assert.match(await daemon.ok("diff", "staged"), /^A \/tmp\/script\.sh$/m);
    await daemon.ok("commit", "staged", "committed:1");
    assert.equal(await daemon.ok("run", "--rm", "committed:1", "sh", "/tmp/script.sh"), "from a file");
    await daemon.ok("start", "staged");
    await untilTrue(async () => (await daemon.ok("logs", "staged")) === "from a file");
    await daemon.ok("cp", `staged:${other}`, join(directory, "back.sh"));
    assert.equal(await readFile(join(directory, "back.sh"), "utf8"), "echo from a file\n");
    await daemon.ok("rm", "--force", "staged");
    await daemon.ok("rmi", "committed:1");
  });

  it("keep the files that were put into them until a start succeeds, in whichever task", inSoak, async () => {
    const { daemon, aws } = under;
    const programs = join(directory, "programs");
    await mkdir(programs);
    await writeFile(join(programs, "run"), "#!/bin/sh\ncat /etc/kept; exec sleep 1000\n", { mode: 0o755 });
    await writeFile(join(directory, "kept"), "kept\n");
    await daemon.ok("create", "--name", "unlucky", "busybox", "/programs/run");
    await daemon.ok("cp", join(directory, "kept"), "unlucky:/etc/kept");
    const fails = async (): Promise<void> => {
      assert.equal((await daemon.docker("start", "unlucky")).code, 1);
      assert.equal(await daemon.ok("inspect", "--format", "{{.State.Status}}", "unlucky"), "created");
      assert.match(await daemon.ok("diff", "unlucky"), /^A \/etc\/kept$/m);
      await daemon.ok("cp", "unlucky:/etc/kept", join(directory, "copied"));
      assert.equal(await readFile(join(directory, "copied"), "utf8"), "kept\n");
    };
    await fails();
    await fails(); // In the task that lingers.
    await untilTrue(() => aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED"));
    await fails();
    await daemon.ok("cp", programs, "unlucky:/");
    await daemon.ok("start", "unlucky");
    await untilTrue(async () => (await daemon.ok("logs", "unlucky")).endsWith("kept"));
    await daemon.ok("rm", "--force", "unlucky");
  });

  it("take no files into a directory that is missing, and those of a volume once it has it", async () => {
    const { daemon } = under;
    const command = ["sh", "-c", "cat /vol/programs/kept; exec sleep 1000"];
    await daemon.ok("create", "--name", "fitting", "--volume", "fits:/vol", "busybox", ...command);
    const file = join(directory, "kept");
    await writeFile(file, "kept\n");
    const { code, errorText } = await daemon.docker("cp", file, "fitting:/nodir/file");
    assert.equal(code, 1);
    assert.match(errorText, /Could not find the file \/nodir in container fitting/);
    await daemon.ok("cp", file, "fitting:/vol/programs/kept");
    const failed = await daemon.docker("start", "fitting");
    assert.match(
      failed.errorText,
      /do not fit in at \/vol\/programs: .*; docker cp a directory to there, too/,
    );
    const programs = join(directory, "programs");
    await mkdir(programs, { recursive: true });
    await daemon.ok("cp", programs, "fitting:/vol");
    await daemon.ok("start", "fitting");
    await untilTrue(async () => (await daemon.ok("logs", "fitting")).endsWith("kept"));
    await daemon.ok("rm", "--force", "fitting");
  });

  it("have their working directory from the creation, and what was put into it", async () => {
    const { daemon } = under;
    const command = ["sh", "-c", "pwd; cat file other; exec sleep 1000"];
    await daemon.ok("create", "--name", "beginning", "--workdir", "/new/dir", "busybox", ...command);
    const file = join(directory, "file");
    await writeFile(file, "in it\n");
    await daemon.ok("cp", file, "beginning:/new/dir");
    await daemon.ok("cp", file, "beginning:/new/dir/other");
    await daemon.ok("cp", "beginning:/new", join(directory, "out"));
    assert.equal(await readFile(join(directory, "out/dir/other"), "utf8"), "in it\n");
    const added = ["A /new", "A /new/dir", "A /new/dir/file", "A /new/dir/other"];
    assert.deepEqual((await daemon.ok("diff", "beginning")).split("\n"), added);
    await daemon.ok("start", "beginning");
    await untilTrue(async () => (await daemon.ok("logs", "beginning")) === "/new/dir\nin it\nin it");
    assert.deepEqual((await daemon.ok("diff", "beginning")).split("\n"), added);
    await daemon.ok("rm", "--force", "beginning");
  });

  it("say which setting would have kept their files, once their task is gone", inSoak, async () => {
    const { daemon } = under;
    await daemon.ok("run", "--name", "left", "busybox", "true");
    await gone("left");
    const { code, errorText } = await daemon.docker("cp", "left:/etc/passwd", "-");
    assert.equal(code, 1);
    assert.match(errorText, /the files of container [0-9a-f]{64} are gone: .*\(ecs\.linger\)/);
    await daemon.ok("rm", "left");
  });

  it("that were committed while they ran are images that run", async () => {
    const { daemon } = under;
    await daemon.ok(
      ...["run", "--detach", "--name", "made", "busybox"],
      ...["sh", "-c", "echo mine > /own; echo written; sleep 1000"],
    );
    await untilTrue(async () => (await daemon.ok("logs", "made")) === "written");
    await daemon.ok("commit", "made", "own:1");
    await daemon.ok("rm", "--force", "made");
    assert.equal(await daemon.ok("run", "--rm", "own:1", "cat", "/own"), "mine");
    const saved = join(directory, "saved.tar");
    await daemon.ok("save", "--output", saved, "own:1");
    assert.ok((await readFile(saved)).length > 100_000);
    await daemon.ok("rmi", "own:1");
  });

  it("need no more than the documented policy", () => {
    assert.deepEqual(under.deniedCalls, []);
  });
});

describe("logs on ECS that are larger than the backend keeps", inSoak, () => {
  it("are read from CloudWatch as they were written, both streams told apart", async () => {
    await using under = await EcsDaemon.start({
      ecs: { linger: "1s", drain_timeout: "1s", log_drain_max: "64" },
    });
    const { daemon, aws } = under;
    const more = "printf '\\n\\377' >&2; sleep 1; seq 1 100; printf '\\n\\351 100%%\\n\\n'; printf end";
    await daemon.ok("run", "--detach", "--name", "large", "busybox", "sh", "-c", `${script}; ${more}`);
    await daemon.ok("wait", "large");
    const numbers = Array.from({ length: 100 }, (_, n) => `${n + 1}\n`).join("");
    const whole = `one\n[stderr] three\nfour${numbers}\n\xe9 100%\n\nend`;
    // From the agent first; then from CloudWatch, which may have the last lines later.
    await untilTrue(async () => {
      const { stdout } = await daemon.docker("logs", "large");
      return stdout.toString("latin1") === whole && aws.calls.count("logs.GetLogEvents") > 0;
    });
    const { stdout, stderr } = await daemon.docker("logs", "large");
    assert.equal(stdout.toString("latin1"), whole);
    assert.equal(stderr.toString("latin1"), "two\n\n\xff");
    const last = (await daemon.docker("logs", "--tail", "5", "large")).stdout;
    assert.equal(last.toString("latin1"), "\n\xe9 100%\n\nend");
  });
});
