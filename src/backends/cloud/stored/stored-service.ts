/**
 * `AgentService` for containers without an agent, in the backend's own process: logs of those that have run, and files
 * of those that have not. Every other call fails with its reason.
 */
import { AsyncLocalStorage } from "node:async_hooks";

import { clone, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";

import { agentLog } from "../../../agent-client/agent-log.ts";
import { type AgentTarget, containerIdHeader } from "../../../agent-client/address.ts";
import type { Clock } from "../../../common/clock.ts";
import { fromUnknown, SockerlessError, systemError } from "../../../common/errors.ts";
import { isFullId } from "../../../common/ids.ts";
import { onAbort } from "../../../common/on-abort.ts";
import {
  AgentService,
  type ArchiveGetRequest,
  type ArchiveGetResponseSchema,
  ChangeKind,
  type ChangesResponseSchema,
  type ExportResponseSchema,
  LogForm,
  type LogsRequest,
  LogsRequestSchema,
  type LogsResponseSchema,
  type PathStatSchema,
} from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { withHeartbeats } from "../../concurrency/heartbeats.ts";
import type { FileBudget } from "../../images/file-budget.ts";
import { allFiles } from "../../images/file-index.ts";
import { endOfTar } from "../../images/tar-entries.ts";
import { CreatedFiles, type CreatedPath, type NewContainer } from "./created-files.ts";
import { countLines } from "./agent-records.ts";
import type { CloudLog, LogPiece } from "../contract/cloud-log.ts";
import type { DrainedLog, DrainedLogs } from "./drained-logs.ts";
import { lastLines, type LogOutput, type LogSelection, shown } from "./log-lines.ts";
import { piecesOf } from "./log-pieces.ts";
import { goMode } from "./go-mode.ts";
import { Pace } from "./pace.ts";
import type { StagedFiles } from "./staged-files.ts";
import { wholeLines } from "./whole-lines.ts";

/** Dependencies of the service. */
export interface StoredServiceOptions {
  readonly drained: Pick<DrainedLogs, "find">;
  readonly staged: StagedFiles;
  readonly cloud: CloudLog;
  /** The agent of a running container; undefined if it has ended or is unknown. */
  readonly liveAgent: (containerId: string) => AgentTarget | undefined;
  /** Whether a container has never been started; undefined if there is no such container. */
  readonly isNew: (containerId: string) => boolean | undefined;
  /** Opens the layers and mounts of a container that has not run. */
  readonly newContainer: (containerId: string, signal: AbortSignal) => Promise<NewContainer>;
  /** Room for the files of containers that have not run, while they are looked at. */
  readonly budget?: FileBudget | undefined;
  /** The backend's name, for messages. */
  readonly backend: string;
  readonly clock: Clock;
}

/** Minimum bytes of a tar per message. */
const chunkBytes = 256 * 1024;

/** The response that a call is answered with. */
export const answering = new AsyncLocalStorage<{ destroy(): unknown }>();

/** Serves stored containers. */
export function registerStoredService(router: ConnectRouter, options: StoredServiceOptions): void {
  const { staged } = options;
  router.service(AgentService, {
    logs: (request, context) => {
      const { signal } = context;
      const messages = logs(options, containerOf(context), request, signal);
      return withHeartbeats(
        messages,
        () => ({ message: { case: "heartbeat", value: {} } }),
        options.clock,
        signal,
      );
    },

    async archivePut(requests, context) {
      const container = containerOf(context);
      refuseEnded(options, container);
      const refuse = (directory: string) => refuseUnpacking(options, context, directory);
      return { totalBytes: await staged.put(container, requests, refuse) };
    },

    async archiveStat(request, context) {
      await using opened = await openFiles(options, context);
      return { stat: pathStat(opened.files.stat(request.path)) };
    },

    archiveGet: (request, context) => alive(options, context, archive(options, context, request)),

    async diskUsage(_request, context) {
      const container = containerOf(context);
      refuseEnded(options, container);
      return { writtenBytes: await staged.writtenBytes(container, context.signal) };
    },

    changes: (_request, context) => alive(options, context, changes(options, context)),

    export: (request, context) => alive(options, context, exported(options, context, request.layer)),
  });
}

/** A stream with heartbeats while layers are read. */
function alive<T>(
  { clock }: StoredServiceOptions,
  { signal }: HandlerContext,
  messages: AsyncIterable<T | Heartbeating>,
): AsyncIterable<T | Heartbeating> {
  return withHeartbeats(messages, () => ({ message: { case: "heartbeat", value: {} } }), clock, signal);
}

interface Heartbeating {
  readonly message: { readonly case: "heartbeat"; readonly value: Record<string, never> };
}

/** Files of a container, held until disposed. */
interface OpenFiles extends AsyncDisposable {
  readonly files: CreatedFiles;
  /** An answer from them, which gives way to others if it is not read on. */
  answer<T>(messages: AsyncIterable<T>): AsyncIterable<T>;
}

/** Reads the files of a call's container, which has not run yet. */
async function openFiles(options: StoredServiceOptions, context: HandlerContext): Promise<OpenFiles> {
  const container = containerOf(context);
  const { signal } = context;
  const { staged, budget = allFiles } = options;
  const response = answering.getStore();
  refuseEnded(options, container);
  await using resources = new AsyncDisposableStack();
  const made = resources.use(await options.newContainer(container, signal));
  const files = resources.use(await CreatedFiles.read(container, made, staged, signal, budget));
  signal.throwIfAborted();
  const owned = resources.move();
  // The answer to a client that reads nothing and leaves may wait for ever.
  owned.use(onAbort(signal, () => void owned.disposeAsync()));
  const end = (): void => {
    files[Symbol.dispose]();
    response?.destroy();
  };
  return {
    files,
    answer: (messages) => budget.givingWay(messages, end),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Refuses an archive that cannot be unpacked; if the files cannot be read, the start reports the failure. */
async function refuseUnpacking(
  options: StoredServiceOptions,
  context: HandlerContext,
  directory: string,
): Promise<void> {
  await using opened = await openFiles(options, context).catch((error: unknown) => {
    const { kind } = fromUnknown(error);
    if (kind === "invalid" || kind === "system") {
      return undefined;
    }
    throw error;
  });
  opened?.files.refuseUnpacking(directory);
}

function pathStat({ name, file, linkTarget }: CreatedPath): MessageInitShape<typeof PathStatSchema> {
  return {
    name,
    size: BigInt(file.size),
    mode: goMode(file),
    mtime: { seconds: BigInt(file.mtime), nanos: 0 },
    linkTarget,
  };
}

async function* archive(
  options: StoredServiceOptions,
  context: HandlerContext,
  { path, entries }: ArchiveGetRequest,
): AsyncGenerator<MessageInitShape<typeof ArchiveGetResponseSchema>> {
  await using opened = await openFiles(options, context);
  const { files } = opened;
  const { stat, tar } =
    entries.length === 0 ? files.get(path) : { stat: files.stat(path), tar: files.entries(entries) };
  yield { message: { case: "stat", value: pathStat(stat) } };
  yield* opened.answer(chunked(tar));
}

async function* changes(
  options: StoredServiceOptions,
  context: HandlerContext,
): AsyncGenerator<MessageInitShape<typeof ChangesResponseSchema>> {
  const container = containerOf(context);
  refuseEnded(options, container);
  let count = 0n;
  // Without staged files the image need not be read.
  if (await options.staged.adds(container)) {
    await using opened = await openFiles(options, context);
    for await (const { path, kind } of opened.answer(opened.files.changes())) {
      yield { message: { case: "change", value: { path, kind: changeKinds[kind] } } };
      count++;
    }
  }
  yield { message: { case: "end", value: { count } } };
}

const changeKinds = { added: ChangeKind.ADDED, modified: ChangeKind.MODIFIED } as const;

async function* exported(
  options: StoredServiceOptions,
  context: HandlerContext,
  layer: boolean,
): AsyncGenerator<MessageInitShape<typeof ExportResponseSchema>> {
  const container = containerOf(context);
  refuseEnded(options, container);
  if (layer && !(await options.staged.adds(container))) {
    yield* chunked([endOfTar()]);
    return;
  }
  await using opened = await openFiles(options, context);
  yield* opened.answer(chunked(layer ? opened.files.layer() : opened.files.whole()));
}

/** A tar as the messages of a stream, including the last one. */
async function* chunked(tar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<TarMessage> {
  let offset = 0n;
  let held: Uint8Array[] = [];
  let length = 0;
  const take = (): TarMessage => {
    const data = Buffer.concat(held);
    const message = { message: { case: "chunk" as const, value: { offset, data } } };
    offset += BigInt(data.length);
    held = [];
    length = 0;
    return message;
  };
  for await (const chunk of tar) {
    held.push(chunk);
    length += chunk.length;
    if (length >= chunkBytes) {
      yield take();
    }
  }
  if (length > 0) {
    yield take();
  }
  yield { message: { case: "end", value: { totalBytes: offset } } };
}

type TarMessage =
  | { readonly message: { readonly case: "chunk"; readonly value: { offset: bigint; data: Uint8Array } } }
  | { readonly message: { readonly case: "end"; readonly value: { totalBytes: bigint } } };

async function* logs(
  { drained, cloud, liveAgent }: StoredServiceOptions,
  container: string,
  request: LogsRequest,
  signal: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof LogsResponseSchema>> {
  if (request.records) {
    throw new ConnectError("records are told by agents alone", Code.Unimplemented);
  }
  const selection: LogSelection = {
    stdout: request.stdout,
    stderr: request.stderr,
    timestamps: request.timestamps,
    sinceNs: request.sinceUnixNs,
    untilNs: request.untilUnixNs,
    prefix: request.linePrefix,
    framed: request.form === LogForm.FRAMES,
  };
  const pace = new Pace(signal);
  const agent = liveAgent(container);
  const ofAgent =
    agent === undefined ? 0n : await countLines(agent, container, request.tail ?? 0n, pace, signal);
  const tail = request.tail === undefined ? undefined : request.tail - ofAgent;
  const sinceNs = tail === undefined ? request.sinceUnixNs : undefined;
  const file = await drained.find(container, agent);
  const pieces =
    file === undefined
      ? withUnavailableReason(
          cloud.lines(container, { tail, sinceNs, beforeLastTask: agent !== undefined }, signal),
        )
      : tail === undefined
        ? piecesOf(pace.each(file.records()))
        : lastLines(() => piecesOf(pace.each(file.records())), tail);
  const told = request.form === LogForm.UNSPECIFIED ? pieces : wholeLines(pieces);
  const earlier = (shown(told, selection, pace) as AsyncIterable<LogOutput>)[Symbol.asyncIterator]();
  let offset = 0n;
  try {
    let step = await earlier.next(); // A failure here is the answer.
    // Sent first, as the rest of the answer may take long.
    yield { message: { case: "heartbeat", value: {} } };
    for (; step.done !== true; step = await earlier.next()) {
      const { stream, data } = step.value;
      yield { message: { case: "chunk", value: { stream, offset, data } } };
      offset += BigInt(data.length);
    }
  } finally {
    await earlier.return?.();
  }
  if (agent !== undefined) {
    const own = clone(LogsRequestSchema, request);
    own.handOver = false;
    if (tail !== 0n) {
      delete own.tail; // All its recorded lines are requested; a limit would cut off new ones.
    }
    for await (const { stream, data } of agentLog(agent, container, own, signal)) {
      yield { message: { case: "chunk", value: { stream, offset, data } } };
      offset += BigInt(data.length);
    }
  }
  const missing = file === undefined ? 0 : missingRuns(file, tail, request.sinceUnixNs);
  if (missing > 0) {
    const runs = missing === 1 ? "a run" : `${missing} runs`;
    throw systemError(`the log of ${runs} is missing: it was lost with its agent before it was taken`);
  }
  yield { message: { case: "end", value: { totalBytes: offset } } };
}

/** The number of lost runs that may have written something of what is asked for. */
function missingRuns({ lossesMs }: DrainedLog, tail: bigint | undefined, sinceNs = 0n): number {
  return tail === 0n ? 0 : lossesMs.filter((ms) => BigInt(Math.ceil(ms)) * 1_000_000n >= sinceNs).length;
}

/** The cloud's log; wraps the error if it is unavailable. */
async function* withUnavailableReason(pieces: AsyncIterable<LogPiece>): AsyncGenerator<LogPiece> {
  try {
    yield* pieces;
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw new SockerlessError(kind, `the log is not to be had, because ${message}`, error);
  }
}

function containerOf({ requestHeader }: HandlerContext): string {
  const container = requestHeader.get(containerIdHeader) ?? "";
  if (!isFullId(container)) {
    throw new ConnectError(
      `the metadata ${containerIdHeader} must be a container's full ID`,
      Code.InvalidArgument,
    );
  }
  return container;
}

/** @throws FAILED_PRECONDITION: the container has run, and its files are gone with its task */
function refuseEnded(options: StoredServiceOptions, container: string): void {
  const isNew = options.isNew(container);
  if (isNew === undefined) {
    throw new ConnectError(`No such container: ${container}`, Code.NotFound);
  }
  if (!isNew) {
    throw noFiles(options, container);
  }
}

function noFiles({ backend }: StoredServiceOptions, container: string): ConnectError {
  return new ConnectError(
    `the files of container ${container} are gone: the ${backend} backend keeps them for a while after its end only (${backend}.linger)`,
    Code.FailedPrecondition,
  );
}
