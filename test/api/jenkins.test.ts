/**
 * Jenkins: the commands of docs/ci/jenkins.md, and an agent of its docker plugin by docker-java, whose libraries Maven
 * brings: that one with SOCKERLESS_SOAK=1 alone.
 */
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { javaLibraries, javaPrograms } from "../conformance/java.ts";
import { missingPrograms } from "../conformance/machine.ts";
import { backendUnderTest, notOn, onlyOn } from "../support/backend-under-test.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { programLimitMs } from "../support/foreign-programs.ts";
import { busyboxImage } from "../support/images.ts";
import { commandsOf, readRecipe } from "../support/recipes.ts";
import { TestRegistry } from "../support/registry.ts";
import { inSoak } from "../support/soak.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();

/** A step of a job. */
const script = "cat pom.xml; echo number $BUILD_NUMBER; echo tested > report\n";
/** The lines of a job, out of a block's output. */
const seen = /^sources\nnumber 8$/m;

describe("Jenkins", () => {
  let guide: string;
  const registry = duringTests(() => TestRegistry.start());
  const directory = scratchDirectory();

  before(async () => {
    guide = await readRecipe("jenkins");
    const busybox = await busyboxImage();
    const home = await tarOf([
      { name: "home/", type: "directory" },
      { name: "home/jenkins/", type: "directory" },
    ]);
    await registry.push("maven", "3", { ...busybox, layers: [...busybox.layers, home] });
  });

  /** Runs the guide's block that begins so, with the image of the registry. @returns its output */
  async function play(beginning: string): Promise<string> {
    const commands = commandsOf(guide, beginning, registry.host);
    const { code, text, errorText } = await runCommand("sh", ["-ec", commands], {
      env: { ...daemon.clientEnv, WORKSPACE: join(directory, "app") },
    });
    assert.equal(code, 0, `${text}\n${errorText}`);
    assert.match(text, /^ *\d+ +cat$/m);
    return text;
  }

  /** Puts a workspace into the volume of Jenkins' container. */
  async function fillVolume(): Promise<void> {
    const workspace = "/var/jenkins_home/workspace";
    const fill = `mkdir -p ${workspace}; cd ${workspace}; mkdir -p app app@tmp; echo sources > app/pom.xml; echo "$0" > app@tmp/script.sh`;
    const run = ["run", "--rm", "--volume", "jenkins_home:/var/jenkins_home", "busybox", "sh", "-ec"];
    await daemon.ok(...run, fill, script);
  }

  test("runs a Pipeline's steps in a container with its workspace", {
    skip: onlyOn("local", "a task has no directory of this machine"),
  }, async () => {
    await writeFiles(directory, { "app/pom.xml": "sources\n", "app@tmp/script.sh": script });
    assert.match(await play("bound"), seen);
    assert.equal(await readFile(join(directory, "app/report"), "utf8"), "tested\n");
    assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
  });

  test("that is a container runs a Pipeline's steps in one with its own volumes", async () => {
    await fillVolume();
    const volume = ["--volume", "jenkins_home:/var/jenkins_home"];
    const id = await daemon.ok("run", "--detach", "--name", "jenkins", ...volume, "busybox", "sleep", "1000");
    if (backendUnderTest() === "local") {
      // By the plugin's pattern.
      const mounts = await daemon.ok("exec", "jenkins", "cat", "/proc/1/mountinfo");
      assert.equal(/(?<=\/containers\/)[a-z0-9]{64}(?=\/hostname)/.exec(mounts)?.[0], id, mounts);
    }
    assert.match(await play("of its container"), seen);
    assert.equal(
      await daemon.ok("exec", "jenkins", "cat", "/var/jenkins_home/workspace/app/report"),
      "tested",
    );
    await daemon.ok("rm", "--force", "jenkins");
    await daemon.ok("volume", "rm", "jenkins_home");
  });

  test("that is a task runs a Pipeline's steps in another with its volume", {
    skip: notOn("local", "the workspace that is bound hides the volume's"),
  }, async () => {
    await fillVolume();
    assert.match(await play("on a cloud"), seen);
    await daemon.ok("volume", "rm", "jenkins_home");
  });

  test("has an agent of its docker plugin from its pull to its removal", {
    ...inSoak,
    timeout: programLimitMs,
  }, async (t) => {
    const missing = missingPrograms(javaPrograms);
    if (missing.length > 0) {
      t.skip(missing.join("; "));
      return;
    }
    await mkdir(join(directory, "jar"), { recursive: true });
    const greeting =
      'echo "<===[JENKINS REMOTING CAPACITY]===>$MADE $(sed -n "s/[[:space:]].*jenkins.example.*//p" /etc/hosts)"';
    const agent = join(directory, "jar/remoting.jar");
    // As remoting does, it looks for a beginning: the plugin sends a line end after the request's body.
    await writeFiles(join(directory, "jar"), {
      "remoting.jar": `echo agent began >&2\n${greeting}\nuntil read -r line && [ "$line" = begin ]; do :; done\nexec cat\n`,
    });
    const program = join(checkout, "test/programs/jenkins/AgentLife.java");
    const libraries = await javaLibraries();
    const args = [`${registry.host}/maven:3`, "agent_cache", agent];
    const { code, text, errorText } = await runCommand(
      "java",
      ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-classpath", `${libraries}/*`, program, ...args],
      { env: daemon.clientEnv, timeout: 100_000 },
    );
    assert.equal(code, 0, `${text}\n${errorText}`);
    assert.equal(text, "the agent has lived");
    assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
    await daemon.ok("volume", "rm", "agent_cache");
  });
});
