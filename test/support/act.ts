/** Workflows that act runs: a job in a container with a service, and one with an action of a Dockerfile. */
import assert from "node:assert/strict";
import { join } from "node:path";

import { runCommand } from "./command.ts";
import type { Daemon } from "./daemon.ts";
import { busyboxRootfsFile } from "./images.ts";
import { writeFiles } from "./write-files.ts";

const workflow = `
on: push
jobs:
  job:
    runs-on: ubuntu-latest
    container: { image: busybox, env: { FROM_JOB: "job's" } }
    services:
      web: { image: web }
    steps:
      - uses: actions/checkout@v4
      - run: cat word; echo "$FROM_JOB"
        shell: sh
      - run: until wget -qO- http://web/; do sleep 0.1; done
        shell: sh
`;
const actionWorkflow = `
on: push
jobs:
  job:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: ./greet
        id: greet
        with: { who: act }
      - run: echo "it said \${{ steps.greet.outputs.said }}"; cat made
        shell: sh
`;
const action = `
name: greet
inputs: { who: { required: true } }
outputs: { said: { description: What it says } }
runs: { using: docker, image: Dockerfile, args: ["\${{ inputs.who }}"] }
`;

/** A client of a daemon that has `busybox`, with files of its own. */
export interface ActClient {
  /** Path of the program. */
  readonly act: string;
  /** For repositories and what act keeps. */
  readonly directory: string;
  readonly daemon: Pick<Daemon, "clientEnv" | "ok">;
}

/** Runs a job in a container with a service. */
export async function runActJob(client: ActClient): Promise<void> {
  const serve = "mkdir /w; echo served >/w/index.html; httpd -f -p 80 -h /w";
  const command = `CMD ["sh", "-c", "${serve}"]`;
  await client.daemon.ok("import", "--change", command, await busyboxRootfsFile(), "web");
  const output = await runWorkflow(client, "job", { "workflow.yml": workflow, word: "checked out\n" });
  assert.match(output, /\| checked out\n.*\| job's\n/);
  assert.match(output, /\| served\n/);
}

/** Runs a job with an action of a Dockerfile, whose container is in the network of the job's. */
export async function runActAction(client: ActClient): Promise<void> {
  const output = await runWorkflow(client, "action", {
    "workflow.yml": actionWorkflow,
    "greet/action.yml": action,
    "greet/Dockerfile": 'FROM busybox\nCOPY --chmod=755 greet.sh /\nENTRYPOINT ["/greet.sh"]\n',
    "greet/greet.sh":
      '#!/bin/sh -e\necho "made for $INPUT_WHO" > made\necho "said=hello $1" >> $GITHUB_OUTPUT\n',
  });
  assert.match(output, /\| it said hello act\n.*\| made for act\n/);
}

async function runWorkflow(
  { act, directory, daemon }: ActClient,
  name: string,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const env = { ...daemon.clientEnv, HOME: directory, TMPDIR: directory };
  const repository = await writeFiles(join(directory, name), files);
  await runCommand("git", ["init", "--quiet", repository], { env });
  const { code, text, errorText } = await runCommand(
    act,
    [
      ...["push", "--directory", repository, "--workflows", join(repository, "workflow.yml")],
      ...["--platform", "ubuntu-latest=busybox", "--pull=false", "--container-daemon-socket", "-"],
    ],
    { env, cwd: directory, timeout: 600_000 },
  );
  assert.equal(code, 0, `${text}\n${errorText}`);
  assert.match(text, /Job succeeded/);
  assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
  return text;
}
