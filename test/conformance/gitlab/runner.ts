/**
 * GitLab Runner by its Go module. Some modules that it depends on can be had from GitLab's own host only: what imports them
 * (steps, other executors than docker's, usage reports) is taken out, or has stand-ins in test/programs/gitlab-runner. The
 * docker executor, its shell scripts and the client of the coordinator are as they were released.
 */
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { checkout } from "../../support/daemon.ts";
import { cached, fingerprint } from "../cache.ts";
import { downloadModule, goIn, makeWritable } from "../moby.ts";

/** GitLab Runner 19.4. */
const version = "v1.11.1-0.20260903214710-fc1f1862bd91";
const standIns = join(checkout, "test/programs/gitlab-runner");

/** Files and folders that are taken out. */
const removed = [
  ...["commands/fleeting", "commands/steps", "commands/wrapper.go", "functions", "helpers/runner_wrapper"],
  ...["executors/docker/autoscaler", "executors/instance", "executors/internal/autoscaler"],
  ...["executors/kubernetes", "executors/shell", "helpers/usage_log/snowplow"],
  ...["steps/localserver", "steps/stepstest"],
];

/** Patterns of the code that imports and uses those, by file. */
const cuts: Readonly<Record<string, readonly RegExp[]>> = {
  "main.go": [
    /^.*(commands\/fleeting|docker\/autoscaler|executors\/(instance|kubernetes|shell))".*\n/gm,
    /^.*\b(fleeting\.NewCommand|commands\.NewRunnerWrapperCommand)\(\),\n/gm,
    /^.*\b(autoscaler|instance|kubernetes|shell)\.NewProvider\(.*\n/gm,
    /^\trunnerCommand, err := os\.Executable\(\)\n\tif err != nil \{\n.*\n\t\}\n/gm,
  ],
  "commands/multi.go": [
    /^.*"gitlab\.com\/gitlab-org\/(labkit\/v2\/|gitlab-runner\/helpers\/usage_log\/snowplow).*\n/gm,
    /^.*"snowplow_billing": +mr\.create.*\n/gm,
    /^func \(mr \*RunCommand\) createSnowplowBillingWriter[\s\S]*?^\}\n/gm,
  ],
  "go.mod": [/^.*gitlab\.com\/gitlab-org\/(fleeting|moa|gitlab-runner\/helpers\/runner_wrapper)\b.*\n/gm],
};

/** Modules, and the folders of their stand-ins. */
const replaced = {
  "gitlab.com/gitlab-org/step-runner": "step-runner",
  "gitlab.com/gitlab-org/labkit/v2": "labkit",
  "gitlab.com/ajwalker/phrasestream": "phrasestream",
};

/** A directory with `gitlab-runner` and `gitlab-runner-helper`. */
export async function gitlabRunner(): Promise<string> {
  const names = (await readdir(standIns, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  const inputs = await Promise.all([...names, new URL(import.meta.url)].map((name) => readFile(name)));
  return await cached(`gitlab-runner-${fingerprint(version, ...inputs)}`, async (temporary) => {
    await mkdir(temporary, { recursive: true });
    const source = join(temporary, "source");
    await prepareSource(source);
    for (const [program, package_] of [
      ["gitlab-runner", "."],
      ["gitlab-runner-helper", "./apps/gitlab-runner-helper"],
    ] as const) {
      await goIn(source, ["build", "-ldflags=-s -w", "-o", join(temporary, program), package_]);
    }
    await rm(source, { recursive: true });
  });
}

async function prepareSource(source: string): Promise<void> {
  await cp(await downloadModule("gitlab.com/gitlab-org/gitlab-runner", version), source, { recursive: true });
  await makeWritable(source);
  for (const path of removed) {
    await rm(join(source, path), { recursive: true });
  }
  for (const [file, patterns] of Object.entries(cuts)) {
    const path = join(source, file);
    let text = await readFile(path, "utf8");
    for (const pattern of patterns) {
      text = text.replaceAll(pattern, "");
    }
    await writeFile(path, text);
  }
  await cp(join(standIns, "runner"), source, { recursive: true, filter: (path) => !path.endsWith("go.mod") });
  const lines = Object.entries(replaced).map(
    ([path, folder]) => `replace ${path} => ${join(standIns, folder)}\n`,
  );
  await writeFile(join(source, "go.mod"), (await readFile(join(source, "go.mod"), "utf8")) + lines.join(""));
}
