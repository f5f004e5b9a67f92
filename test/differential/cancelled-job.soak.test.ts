/**
 * The calls by which GitLab Runner cancels a job (its `executors/docker`, 19.4), beside the dockerd of the release that is
 * advertised: an exec that signals the job's processes, a stop while somebody waits, and another stage in the same container.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mobyPrograms } from "../conformance/moby.ts";
import { Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { EngineApi } from "../support/engine-api.ts";
import { channelText, hijackRequest, type RawClient } from "../support/raw-client.ts";

/** The runner's own script: a TERM for each process but the first, for which it waits up to 6 s each. */
const signalling = `PROCS=$(cd /proc && ls -rvd [0-9]*) &&
for P in $PROCS; do
	if [ $$ -ne $P ] && [ $P -ne 1 ]; then
		kill -TERM $P 2>/dev/null &&
		ATTEMPTS=6 &&
		while [ -e /proc/$P ] && [ $ATTEMPTS -gt 0 ]; do
			sleep 1 && ATTEMPTS=$((ATTEMPTS-1));
		done;
	fi;
done
`;

/** A job's script as the runner wraps it. */
const wrapped = (script: string) => `trap 'exit 1' TERM
set -o errexit
(trap 'exit 1' TERM; eval '${script}') < /dev/null
exit 0
`;

/** Attaches, starts, and sends the script and its end: a stage that goes on. */
async function begin(api: EngineApi, job: string, script: string): Promise<RawClient> {
  const client = api.connect();
  client.send(hijackRequest(`/v1.51/containers/${job}/attach?stdin=1&stdout=1&stderr=1&stream=1`));
  assert.match(await client.answered(), /^HTTP\/1\.1 101 /);
  await api.start(job);
  client.socket.end(wrapped(script));
  return client;
}

/** Runs the runner's script in a job, as long as it takes. */
async function signal(api: EngineApi, job: string): Promise<string> {
  const { Id } = await api.expect<{ Id: string }>(201, "POST", `/containers/${job}/exec`, {
    ...{ AttachStdout: true, AttachStderr: true },
    Cmd: ["sh", "-c", signalling],
  });
  const execution = api.connect();
  execution.send(hijackRequest(`/v1.51/exec/${Id}/start`, { body: "{}" }));
  await execution.end();
  execution.close();
  return channelText(execution.body, 1) + channelText(execution.body, 2);
}

/** A job that is cancelled once it has begun: what is seen of it, and of a stage after it. */
async function cancelled(api: EngineApi, script: string): Promise<unknown> {
  const streams = { AttachStdin: true, AttachStdout: true, AttachStderr: true };
  const input = { OpenStdin: true, StdinOnce: true };
  const host = { HostConfig: { NetworkMode: "none" } };
  const job = await api.create({ Cmd: ["sh"], StopTimeout: 1, ...streams, ...input, ...host });
  const stage = await begin(api, job, script);
  await stage.says("start");

  const signalled = await signal(api, job);
  const waiting = api.wait(job);
  const { status } = await api.call("POST", `/containers/${job}/stop`);
  assert.ok(status === 204 || status === 304, `${status}`); // It may have ended by then.
  const code = await waiting;
  await stage.end();
  stage.close();

  const last = await begin(api, job, "echo AFTER");
  await last.end();
  last.close();
  const lastCode = await api.wait(job);
  await api.remove(job);
  const [output, after] = [stage, last].map(({ body }) => channelText(body, 1));
  return { signalled, code, output, after, lastCode };
}

const jobs: Readonly<Record<string, string>> = {
  "that minds no signals": "echo start; sleep 1000; echo NOTREACHED",
  "that traps TERM":
    'trap "echo GOT-TERM; exit 0" TERM; echo start; while :; do sleep 0.1 || :; done; echo NOTREACHED',
  "that ignores TERM": 'trap "" TERM; echo start; exec sleep 1000',
};

describe("a job of GitLab Runner's that is cancelled", () => {
  const engines = duringTests(async (resources) => {
    const daemon = resources.use(await Daemon.startWithBusybox());
    const dockerd = resources.use(await Dockerd.startWithBusybox({ programs: await mobyPrograms() }));
    return [daemon, dockerd].map(({ socket }) => new EngineApi(() => socket));
  });

  for (const [what, script] of Object.entries(jobs)) {
    test(`${what} ends as on dockerd`, async () => {
      const [ours, theirs] = await Promise.all(engines.map((api) => cancelled(api, script)));
      assert.deepEqual(ours, theirs);
    });
  }
});
