/**
 * `AgentService` for containers without an agent, in the backend's own process: logs of those that have ended, and files
 * for those that have not begun. Everything else says why it cannot be.
 */
import path from "node:path";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";

import { containerIdHeader } from "../../../../agent-client/address.ts";
import type { Clock } from "../../../../common/clock.ts";
import { isFullId } from "../../../../common/ids.ts";
import {
  AgentService,
  type ArchiveStatResponseSchema,
  type ExportResponseSchema,
  type LogsRequest,
  type LogsResponseSchema,
} from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { withHeartbeats } from "../../engine/services/heartbeats.ts";
import type { FileIndex } from "../../images/file-index.ts";
import type { DrainedLogs } from "./drained-logs.ts";
import { type LogOutput, type LogPiece, lastLines, type LogSelection, piecesOf, shown } from "./log-lines.ts";
import { goMode } from "./go-mode.ts";
import type { StagedFiles } from "./staged-files.ts";

/** The log that a cloud keeps of a container. */
export interface CloudLog {
  /**
   * Its lines, oldest first; a log that does not exist has none.
   *
   * @param range what of it is wanted at least; more may come
   */
  lines(containerId: string, range: CloudLogRange, signal: AbortSignal): AsyncIterable<LogPiece>;
}

/** What of a cloud's log is wanted. */
export interface CloudLogRange {
  /** The last lines only, exactly so many. */
  readonly tail: bigint | undefined;
  /** From here on; earlier lines may come too. Not together with `tail`. */
  readonly sinceNs: bigint | undefined;
}

/** What is served. */
export interface StoredServiceOptions {
  readonly drained: DrainedLogs;
  readonly staged: StagedFiles;
  readonly cloud: CloudLog;
  /** Whether a container has never been started; undefined: there is no such container. */
  readonly isNew: (containerId: string) => boolean | undefined;
  /** The files of the image of a container. */
  readonly imageFiles: (containerId: string, signal: AbortSignal) => Promise<FileIndex>;
  /** The backend's name, for what cannot be. */
  readonly backend: string;
  readonly clock: Clock;
}

/** The end of a tar: the changes of a container that has not run are none. */
const emptyTar = Buffer.alloc(1024);

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
      return { totalBytes: await staged.put(container, requests) };
    },

    archiveStat: (request, context) => stat(options, containerOf(context), request.path, context.signal),

    // biome-ignore lint/correctness/useYield: It has only a refusal to tell.
    async *archiveGet(_request, context) {
      throw noFiles(options, containerOf(context));
    },

    async *changes(_request, context) {
      refuseEnded(options, containerOf(context));
      yield { message: { case: "end" as const, value: { count: 0n } } };
    },

    export: (request, context) => exported(options, containerOf(context), request.layer),
  });
}

/** What a container that has not run yet would have at a path: clients look before they put something there. */
async function stat(
  options: StoredServiceOptions,
  container: string,
  asked: string,
  signal: AbortSignal,
): Promise<MessageInitShape<typeof ArchiveStatResponseSchema>> {
  refuseEnded(options, container);
  const files = await options.imageFiles(container, signal);
  await options.staged.addTo(files, container);
  const file = files.find(asked);
  if (file === undefined) {
    throw new ConnectError(`Could not find the file ${asked} in container ${container}`, Code.NotFound);
  }
  return {
    stat: {
      name: path.posix.basename(path.posix.resolve("/", asked)) || "/",
      size: BigInt(file.size),
      mode: goMode(file),
      mtime: timestampFromDate(file.mtime),
      linkTarget: file.type === "symlink" ? files.targetOf(asked) : "",
    },
  };
}

async function* logs(
  { drained, cloud }: StoredServiceOptions,
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
  };
  const file = await drained.find(container);
  const { tail, sinceUnixNs } = request;
  const pieces =
    file === undefined
      ? cloud.lines(container, { tail, sinceNs: tail === undefined ? sinceUnixNs : undefined }, signal)
      : tail === undefined
        ? piecesOf(file())
        : lastLines(file, tail);
  let offset = 0n;
  for await (const { stream, data } of shown(pieces, selection) as AsyncIterable<LogOutput>) {
    yield { message: { case: "chunk", value: { stream, offset, data } } };
    offset += BigInt(data.length);
  }
  yield { message: { case: "end", value: { totalBytes: offset } } };
}

async function* exported(
  options: StoredServiceOptions,
  container: string,
  layer: boolean,
): AsyncGenerator<MessageInitShape<typeof ExportResponseSchema>> {
  refuseEnded(options, container);
  if (!layer || (await options.staged.has(container))) {
    throw noFiles(options, container);
  }
  yield { message: { case: "chunk", value: { offset: 0n, data: emptyTar } } };
  yield { message: { case: "end", value: { totalBytes: BigInt(emptyTar.length) } } };
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

/** @throws FAILED_PRECONDITION: the container has run, and its files went with its task */
function refuseEnded(options: StoredServiceOptions, container: string): void {
  const isNew = options.isNew(container);
  if (isNew === undefined) {
    throw new ConnectError(`No such container: ${container}`, Code.NotFound);
  }
  if (!isNew) {
    throw noFiles(options, container);
  }
}

function noFiles({ isNew, backend }: StoredServiceOptions, container: string): ConnectError {
  const reason =
    isNew(container) === true
      ? `container ${container} has no files before its start on the ${backend} backend: they can be put into it, and are read once it runs`
      : `the files of container ${container} are gone: the ${backend} backend keeps them for a while after its end only (${backend}.linger)`;
  return new ConnectError(reason, Code.FailedPrecondition);
}
