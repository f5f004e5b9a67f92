/** The environment of a task: the settings that its agent needs before anyone connects to it. */
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Preparation } from "../contract/prepared-tasks.ts";
import type { Sealer } from "../authority/seal.ts";
import { logSettings } from "../../logging/log-settings.ts";

/** ID of the container that the task runs. */
export const containerVariable = "SOCKERLESS_CONTAINER_ID";
/** Generation of the container's start, decimal. */
export const generationVariable = "SOCKERLESS_GENERATION";
/** The shape of a prepared task, which waits under the name in {@link containerVariable}; absent for other tasks. */
export const preparedVariable = "SOCKERLESS_PREPARED";
/** Pin of the authority whose clients the agent admits, `sha256/<base64>`. */
const pinVariable = "SOCKERLESS_CLIENT_CA_PIN";
/** Address at which the agent calls its backend; absent if it is dialled. */
const callbackVariable = "SOCKERLESS_CALLBACK_URL";
/** Token of the start, by which its agent is asked for a proof once it has called; absent if it is dialled. */
const callTokenVariable = "SOCKERLESS_CALLBACK_TOKEN";
/** Time for which the agent waits for its start, as a Go duration: `720s`. */
const startTimeoutVariable = "SOCKERLESS_START_TIMEOUT";
const stopSignalVariable = "SOCKERLESS_STOP_SIGNAL";
/** Bytes of output after which the agent rotates its log file. */
const logSizeVariable = "SOCKERLESS_LOG_MAX_SIZE";
const logFilesVariable = "SOCKERLESS_LOG_MAX_FILES";

/**
 * Variables that a prepared task's agent gets with the claim and the start, or with other values, rather than in its
 * environment.
 */
export const variablesOfStart: ReadonlySet<string> = new Set([
  containerVariable,
  generationVariable,
  callTokenVariable,
  startTimeoutVariable,
  stopSignalVariable,
]);

const ofGeneration: ReadonlySet<unknown> = new Set([generationVariable, callTokenVariable]);

/** Settings shared by all agents of a backend. */
export interface AgentSettings {
  /** SHA-256 of the public key of the authority over the agents. */
  readonly authorityPin: Uint8Array;
  /** Time limit of a container's start, in milliseconds. */
  readonly startTimeoutMs: number;
  /** Address at which agents call; undefined if they are dialled. */
  readonly callbackUrl?: string | undefined;
  /** Tokens of agents that call. */
  readonly callToken?: Sealer["callToken"] | undefined;
}

/** Seconds that an agent waits beyond its backend's limit, for unpacking files and attachments. */
const agentMarginS = 120;

/** The environment of the agent of one start. */
export function agentEnvironment(
  record: ContainerRecord,
  { authorityPin, startTimeoutMs, callbackUrl, callToken }: AgentSettings,
): { readonly name: string; readonly value: string }[] {
  const stopSignal = record.config?.stopSignal ?? "";
  return [
    { name: containerVariable, value: record.id },
    { name: generationVariable, value: String(record.generation) },
    { name: pinVariable, value: `sha256/${Buffer.from(authorityPin).toString("base64")}` },
    { name: startTimeoutVariable, value: `${agentWaitS(startTimeoutMs)}s` },
    ...(callbackUrl === undefined ? [] : [{ name: callbackVariable, value: callbackUrl }]),
    ...(callbackUrl === undefined || callToken === undefined
      ? []
      : [{ name: callTokenVariable, value: callToken(record.id, record.generation) }]),
    ...(stopSignal === "" ? [] : [{ name: stopSignalVariable, value: stopSignal }]),
    ...logLimitsOf(record),
  ];
}

/** Parts of a request as JSON, without the generation in its agent's environment, and its token. */
export function withoutGeneration(request: object): string {
  return JSON.stringify(request, (_key, value: unknown) =>
    Array.isArray(value) ? value.filter((item) => !ofGeneration.has(item?.name)) : value,
  );
}

/**
 * The environment of a prepared task's agent.
 *
 * @param shared variables of all tasks of its shape
 */
export function preparedEnvironment<Variable extends { readonly name?: string | undefined }>(
  shared: readonly Variable[],
  { name, shape, waitMs, callToken }: Preparation,
): (Variable | { readonly name: string; readonly value: string })[] {
  return [
    ...shared,
    ...(shared.some((each) => each.name === callbackVariable)
      ? [{ name: callTokenVariable, value: callToken }]
      : []),
    { name: containerVariable, value: name },
    { name: preparedVariable, value: shape },
    { name: startTimeoutVariable, value: `${Math.ceil(waitMs / 1000)}s` },
  ];
}

/** Seconds for which an agent waits for its start. */
export function agentWaitS(startTimeoutMs: number): number {
  return Math.ceil(startTimeoutMs / 1000) + agentMarginS;
}

/** Limits of the log; the agent has its own defaults. */
function logLimitsOf({ hostConfig }: ContainerRecord) {
  const { maxSize, maxFiles } = logSettings(hostConfig?.logConfig);
  return maxSize === 0n
    ? []
    : [
        { name: logSizeVariable, value: String(maxSize) },
        { name: logFilesVariable, value: String(maxFiles) },
      ];
}
