/** `AgentService.ArchiveGet` and `ArchivePut`: a container's files as tar streams. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import {
  ArchiveGetRequestSchema,
  ArchiveGetResponseSchema,
  type ArchivePutOpenSchema,
  ArchivePutRequestSchema,
  ArchivePutResponseSchema,
  type PathStat,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { ArchivedPath, StreamKind } from "./agent-stream.ts";
import { decodeGiven } from "./bulk-end.ts";
import { archiveChunkTag, archiveOutput } from "./bulk-messages.ts";

/** Response header which says that the agent is ready to receive the archive. */
const archiveOpenHeader = "sockerless-archive-open";

/** Downloads a path: no input, output is a tar stream. */
export const archiveGetStream: StreamKind = {
  path: "/sockerless.agent.v1.AgentService/ArchiveGet",
  shape: archiveOutput,
  inputTag: undefined,
  heartbeat: undefined,
  expectsHeartbeats: true,
  decode: (bytes) => {
    const { message } = fromBinary(ArchiveGetResponseSchema, bytes);
    return message.case === "stat"
      ? { type: "opened", opened: { kind: "archive", stat: archivedPath(message.value) } }
      : decodeGiven(message, "an archive");
  },
};

/** Unpacks into a directory: input is a tar stream, no output. */
export const archivePutStream: StreamKind = {
  path: "/sockerless.agent.v1.AgentService/ArchivePut",
  shape: archiveOutput,
  inputTag: archiveChunkTag,
  heartbeat: toBinary(
    ArchivePutRequestSchema,
    create(ArchivePutRequestSchema, { message: { case: "heartbeat", value: {} } }),
  ),
  expectsHeartbeats: false,
  openedByHeader: { name: archiveOpenHeader, opened: { kind: "archive-put" } },
  inputEnd: (inputBytes) => ({
    message: toBinary(
      ArchivePutRequestSchema,
      create(ArchivePutRequestSchema, {
        message: { case: "end", value: { totalBytes: BigInt(inputBytes) } },
      }),
    ),
    last: true,
  }),
  decode: (bytes) => ({
    type: "ended",
    outcome: {
      kind: "complete",
      totalBytes: Number(fromBinary(ArchivePutResponseSchema, bytes).totalBytes),
    },
  }),
};

/** Encodes the request to download a path. */
export function encodeArchiveGet(request: MessageInitShape<typeof ArchiveGetRequestSchema>): Uint8Array {
  return toBinary(ArchiveGetRequestSchema, create(ArchiveGetRequestSchema, request));
}

/** Encodes the first message of an upload. */
export function encodeArchivePut(open: MessageInitShape<typeof ArchivePutOpenSchema>): Uint8Array {
  return toBinary(
    ArchivePutRequestSchema,
    create(ArchivePutRequestSchema, { message: { case: "open", value: open } }),
  );
}

/** Size limit in characters for a name or a link's target, which are answered in a header. Linux resolves paths of 4,096. */
const maxNameLength = 8_192;

/**
 * A path's metadata as plain data.
 *
 * @throws ConnectError `DataLoss` for a name or a target that no file has
 */
export function archivedPath(stat: PathStat): ArchivedPath {
  if (Math.max(stat.name.length, stat.linkTarget.length) > maxNameLength) {
    throw new ConnectError(`the agent named a file in more than ${maxNameLength} characters`, Code.DataLoss);
  }
  return {
    name: stat.name,
    size: Number(stat.size),
    mode: stat.mode,
    mtime: { seconds: stat.mtime?.seconds ?? 0n, nanos: stat.mtime?.nanos ?? 0 },
    linkTarget: stat.linkTarget,
  };
}
