/** act, by the files and commands of docs/ci/act.md. Compiling it takes minutes: with SOCKERLESS_SOAK=1 alone. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { before, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import { compileBuilder } from "../support/builds.ts";
import { buildLimitMs, runCommand } from "../support/command.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { importAs, readRecipe, servingCommand } from "../support/recipes.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();
const directory = scratchDirectory();
let repository: string;
let guide: string;

before(
  async () => {
    if (isSoak) {
      await compileBuilder();
    }
  },
  { timeout: buildLimitMs },
);
before(async () => {
  repository = join(directory, "repository");
  guide = await readRecipe("act");
  const files = [...guide.matchAll(/^```yaml\n# (\S+)\n(.*?)^```$/gms)].map(
    ([, file = "", content = ""]) => [file, content] as const,
  );
  await writeFiles(repository, {
    ...Object.fromEntries(files),
    "README.md": "read by the job\n",
    "greet/Dockerfile": 'FROM busybox\nCOPY --chmod=755 greet.sh /\nENTRYPOINT ["/greet.sh"]\n',
    "greet/greet.sh": '#!/bin/sh -e\necho "said=hello $1" >> $GITHUB_OUTPUT\n',
  });
});
/** Runs the guide's command for a workflow in the repository. @returns its output; undefined: act cannot be had here */
async function push(skip: (reason: string) => void, workflow: string): Promise<string | undefined> {
  const found = await buildForeignProgram("act");
  if ("missing" in found) {
    skip(found.missing);
    return undefined;
  }
  const line = guide.split("\n").find((each) => each.startsWith(`act push --workflows ${workflow} `)) ?? "";
  const tools = dirname(found.path);
  const env = { ...daemon.clientEnv, HOME: directory, TMPDIR: directory };
  await runCommand("git", ["init", "--quiet", repository], { env });
  const { code, text, errorText } = await runCommand("sh", ["-c", `${line} --pull=false`], {
    env: { ...env, PATH: `${tools}:${process.env["PATH"]}` },
    cwd: repository,
    timeout: 600_000,
  });
  assert.equal(code, 0, `${line}\n${text}\n${errorText}`);
  assert.match(text, /Job succeeded/);
  assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
  return text;
}

const limits = { ...inSoak, timeout: 2 * programLimitMs };

test("act runs a job in a container with a service", limits, async (t) => {
  await importAs(daemon, "node:22", "true");
  await importAs(daemon, "nginx:1", servingCommand);
  const output = await push((reason) => t.skip(reason), ".github/workflows/test.yml");
  if (output !== undefined) {
    assert.match(output, /\| read by the job\n/);
    assert.match(output, /\| served\n/);
  }
});

const onLocal = onlyOn("local", "an action joins the network of its job's container");
test("act runs an action of a Dockerfile", {
  ...limits,
  skip: inSoak.skip === false ? onLocal : inSoak.skip,
}, async (t) => {
  await importAs(daemon, "catthehacker/ubuntu:act-latest", "true");
  const output = await push((reason) => t.skip(reason), ".github/workflows/greet.yml");
  if (output !== undefined) {
    assert.match(output, /\| it said hello act\n/);
  }
});
