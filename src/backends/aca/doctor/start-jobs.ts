/**
 * Checks of `sockerless doctor --start-job`: jobs like those of containers, whose only process is the agent, deleted at
 * once. As Azure only reports whether a job has failed, one that does nothing serves as a reference for the other.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../../common/clock.ts";
import type { AcaConfig } from "../../../common/config/load.ts";
import { messageOf } from "../../../common/errors.ts";
import { type DoctorCheck, ok, type Result, unknown, wrong } from "../../../common/finding.ts";
import { newId } from "../../../common/ids.ts";
import type { Logger } from "../../../common/logger.ts";
import { ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { createAuthority } from "../../cloud/authority/authority.ts";
import { readAuthority } from "../../cloud/authority/authority-file.ts";
import { instanceOf } from "../../cloud/authority/instance.ts";
import { callbackListenOf } from "../../cloud/callback/backend-relay.ts";
import { Relay } from "../../cloud/callback/relay.ts";
import type { AzureClients } from "../arm/clients.ts";
import { jobOf } from "../jobs/job.ts";
import type { JobRequest } from "../jobs/job-requests.ts";
import { ContainerJobs } from "../jobs/jobs.ts";
import { jobSizeOf } from "../jobs/sizes.ts";
import { environmentIdOf, jobSettingsOf } from "../platform.ts";

/** The tag's value on these jobs, which no backend adopts. */
const instance = "sockerless/doctor";
/** Maximum wait for the end of a job, a little less than for a check. */
const longestMs = 110_000;
const pollMs = 1_000;
/** Time limit after which Azure ends a job whose doctor was killed. */
const replicaTimeoutMs = 300_000;
const smallest = { cpu: 0, memory: 0 } as const;

/** Dependencies of the checks. */
export interface JobStarts {
  readonly config: AcaConfig;
  readonly azure: AzureClients;
  readonly agentImage: string;
  readonly callbackUrl: string;
  readonly logger: Logger;
}

/** How a job has ended, and its duration. */
type Ended = { readonly isSuccess: boolean; readonly seconds: number } | { readonly failure: Result };

/** The checks of a start, and of the callback address from inside the environment. */
export function startedJobChecks(starts: JobStarts): readonly DoctorCheck[] {
  const { callbackUrl } = starts;
  let plain: Promise<Ended> | undefined;
  const runPlain = (signal: AbortSignal): Promise<Ended> =>
    (plain ??= runJob(starts, "version", randomBytes(32), signal));
  return [
    {
      check: "a job that starts",
      async look(signal) {
        const ended = await runPlain(signal);
        if ("failure" in ended) {
          return ended.failure;
        }
        return ended.isSuccess
          ? ok(`it had run after ${ended.seconds} s`)
          : wrong(
              "the agent did not run in a job: why is in the environment's system log (ContainerAppSystemLogs_CL)",
            );
      },
    },
    {
      check: callbackCheck,
      async look(signal) {
        await using listener = await listenForCall(starts);
        if ("failure" in listener) {
          return listener.failure;
        }
        const [started, called] = await Promise.all([
          runPlain(signal),
          runJob(starts, "call", listener.pin, signal),
        ]);
        if ("failure" in called) {
          return unknown(called.failure.text);
        }
        if (called.isSuccess) {
          return ok(`a job has reached ${callbackUrl}`);
        }
        return "isSuccess" in started && started.isSuccess
          ? wrong(
              `a job does not reach this backend at ${callbackUrl}: look at its name, port, firewalls, and proxies on the way, which have to pass WebSockets; the job's log in Log Analytics tells what it met`,
            )
          : unknown("no job runs that could call");
      },
    },
  ];
}

/** The name of the check whether agents reach the backend. */
export const callbackCheck = "the callback address";

/**
 * Waits for a call like the backend does, or leaves that to a running backend.
 *
 * @returns SHA-256 of the key by which the agent identifies the called backend
 */
async function listenForCall({
  config,
  callbackUrl,
  logger,
}: JobStarts): Promise<AsyncDisposable & ({ readonly pin: Uint8Array } | { readonly failure: Result })> {
  await using resources = new AsyncDisposableStack();
  const end = (): AsyncDisposable => resources.move();
  const pin = randomBytes(32);
  const listen = callbackListenOf({ url: callbackUrl, listen: config.aca.callbackListen });
  const directory = await mkdtemp(path.join(tmpdir(), "sockerless-doctor-"));
  resources.defer(() => rm(directory, { recursive: true }));
  try {
    resources.use(
      await Relay.start({
        ...{ listen, logger },
        path: path.join(directory, "agents.sock"),
        instance: instanceOf({ pin }),
        callKey: randomBytes(32),
      }),
    );
    return Object.assign(end(), { pin });
  } catch (error) {
    if (!messageOf(error).includes("EADDRINUSE")) {
      return Object.assign(end(), { failure: wrong(messageOf(error)) });
    }
  }
  const { agentCa } = config.aca;
  if (!agentCa.includes("-----BEGIN ") && !existsSync(agentCa)) {
    const failure = unknown(`${listen} is in use, and not by a backend that has ${agentCa}`);
    return Object.assign(end(), { failure });
  }
  const authority = await createAuthority(await readAuthority(agentCa), systemClock);
  return Object.assign(end(), { pin: authority.pin });
}

/** Runs the agent in a job with one argument, waits for its end, and deletes it. */
async function runJob(
  { config, azure, agentImage, callbackUrl, logger }: JobStarts,
  mode: "version" | "call",
  authorityPin: Uint8Array,
  signal: AbortSignal,
): Promise<Ended> {
  const { aca } = config;
  const name = `sockerless-doctor-${randomBytes(4).toString("hex")}`;
  const containerId = newId();
  const record = create(ContainerRecordSchema, { id: containerId, name: "doctor", generation: 1n });
  const settings = jobSettingsOf(aca, { instance, agentImage, authorityPin, callbackUrl });
  const job = jobOf(
    record,
    [],
    {
      image: { reference: agentImage, agent: undefined },
      imageMounts: { copies: [], mounts: [] },
      volumes: { volumes: [], mounts: [] },
      size: jobSizeOf(undefined, smallest),
    },
    { ...settings, replicaTimeoutMs },
  );
  for (const container of job.template?.containers ?? []) {
    container.args = [mode];
  }
  const jobs = new ContainerJobs({
    ...{ azure, instance, clock: systemClock, logger },
    resourceGroup: aca.resourceGroup,
    environmentId: environmentIdOf(aca),
    secretOf: () => randomBytes(32).toString("base64url"), // Not used by anyone.
    registryPassword: aca.registryPassword,
    containerTimeMs: replicaTimeoutMs,
    isOnBooks: () => false,
    environmentOf: () => undefined,
    isContainer: () => false,
    ended() {},
    failed() {},
  });
  const begunMs = systemClock.nowMs();
  const secondsSince = (): number => Math.round((systemClock.nowMs() - begunMs) / 1000);
  try {
    const request: JobRequest = { name, containerId, generation: "1", job };
    const answer = await jobs.run(JSON.stringify(request), signal);
    if ("reason" in answer) {
      const isLasting = answer.prospect === "lasts";
      return { failure: (isLasting ? wrong : unknown)(`no job starts: ${answer.reason}`) };
    }
    while (systemClock.nowMs() - begunMs < longestMs) {
      const { views } = await jobs.describe([answer.task], signal);
      const [view] = views;
      if (view?.stopped === true) {
        return { isSuccess: view.exitCode === 0, seconds: secondsSince() };
      }
      await systemClock.sleep(pollMs, signal);
    }
    return { failure: unknown(`the job has not ended after ${secondsSince()} s`) };
  } finally {
    await jobs
      .remove(name)
      .catch((error: unknown) =>
        logger.warn({ err: error }, `cannot delete the job ${name}: ${messageOf(error)}`),
      );
  }
}
