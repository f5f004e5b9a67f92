/** The commands of docs/ci-on-fargate.md, as they stand there: blocks of shell, with small images by the guide's names. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { until } from "../support/until.ts";

const guide = readFileSync(join(checkout, "docs/ci-on-fargate.md"), "utf8");

/** The block of shell that has a command. */
function blockWith(command: string): string {
  const blocks = [...guide.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = ""]) => block);
  return blocks.find((block) => block.includes(command)) ?? assert.fail(`no block has ${command}`);
}

/** The guide's images, and what each does in place of its own program. */
const images: Readonly<Record<string, string>> = {
  "postgres:16": 'CMD ["sleep", "1000"]',
  "alpine/git": 'ENTRYPOINT ["sh", "-c", "mkdir /builds/project && echo cloned > /builds/project/source"]',
  "job-image": 'ENTRYPOINT ["sh", "-c", "cat source; echo tested > report.xml"]',
  "ghcr.io/owner/runner-image": 'ENTRYPOINT ["sh", "-c", "echo runs $JITCONFIG; sleep 1000"]',
};

describe("the commands of the guide to CI on Fargate", () => {
  let ecs: EcsDaemon;
  let folder: string;
  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);
  /** Runs a block as one script in a folder of its own. */
  const run = (script: string) => {
    const PATH = `${folder}:${join(checkout, "bin")}:${process.env["PATH"]}`;
    const env = { ...ecs.daemon.clientEnv, PATH };
    return runCommand("sh", ["-ec", script], { env, cwd: folder });
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "skl-ci-guide-"));
    ecs = await EcsDaemon.start({ leastPrivilege: true, ecs: { linger: "5s", drain_timeout: "1s" } });
    await ok("load", "--input", await busyboxArchiveFile());
    for (const [name, change] of Object.entries(images)) {
      await ok("create", "--name", "template", "busybox");
      await ok("commit", "--change", change, "template", name);
      await ok("rm", "template");
    }
  });
  after(async () => {
    await ecs?.stop();
    await rm(folder, { recursive: true });
  });

  it("are a job of GitLab's by hand", async () => {
    const { code, text, errorText } = await run(blockWith("--name ci-42-db"));
    assert.equal(code, 0, errorText);
    assert.match(text, /^cloned$/m);
    assert.equal(await ok("ps", "--all", "--quiet"), "");
    assert.equal(await ok("volume", "ls", "--quiet"), "");
  });

  it("are a job of any script", async () => {
    await writeFile(join(folder, "source"), "brought\n");
    const { code, text, errorText } = await run(blockWith("docker create --name job"));
    assert.equal(code, 0, errorText);
    assert.match(text, /^brought$/m);
    assert.match(text, /^exit 0$/m);
    assert.equal(await readFile(join(folder, "report.xml"), "utf8"), "tested\n");
  });

  it("are a runner of GitHub's, and what to watch of it", async () => {
    const gh = join(folder, "gh"); // The rest of it is GitHub's.
    await writeFile(gh, "#!/bin/sh\necho configuration\n");
    await chmod(gh, 0o755);
    const runner = run(blockWith("--name github-runner-1").replaceAll("OWNER", "owner"));
    runner.catch(() => {});
    await until(async () => {
      const { text } = await ecs.daemon.docker("logs", "github-runner-1");
      return text.includes("runs configuration") || undefined;
    });
    // Those that follow events do not end, and the last is for a backend that has been stopped.
    const watched = blockWith("sockerless why")
      .split("\n")
      .filter((line) => !/^(docker events|sockerless ecs prune)/.test(line));
    const { code, text, errorText } = await run(watched.join("\n"));
    assert.equal(code, 0, errorText);
    assert.match(text, /^github-runner-1 Up /m);
    assert.match(text, /^github-runner-1 is running$/m);
    await ok("rm", "--force", "github-runner-1");
    await runner;
  });

  it("need no more than the documented policy", () => {
    assert.deepEqual(ecs.deniedCalls, []);
  });
});
