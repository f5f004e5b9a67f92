/** `AgentService.Export`: a container's file system, or its changes, as a tar stream. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { systemError } from "../common/errors.ts";
import {
  ExportRequestSchema,
  type ExportResponse,
  ExportResponseSchema,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { StreamKind } from "./agent-stream.ts";
import { decodeGiven } from "./bulk-end.ts";
import { exportOutput } from "./bulk-messages.ts";

/** An export: no input, output is a tar stream. */
export const exportStream: StreamKind = {
  path: "/sockerless.agent.v1.AgentService/Export",
  shape: exportOutput,
  inputTag: undefined,
  heartbeat: undefined,
  expectsHeartbeats: true,
  openedByDefault: { kind: "export" },
  decode: (bytes) => decodeGiven(fromBinary(ExportResponseSchema, bytes).message, "an export"),
};

/** The request of an export. */
export function encodeExportRequest(request: MessageInitShape<typeof ExportRequestSchema>): Uint8Array {
  return toBinary(ExportRequestSchema, create(ExportRequestSchema, request));
}

/**
 * Yields the bytes of an export by typed messages.
 *
 * @param open starts the call when the first byte is read: the failure of an unread call would be unhandled, which ends
 *   the process
 * @throws system if bytes or the end are missing
 */
export async function* exportedBytes(open: () => AsyncIterable<ExportResponse>): AsyncGenerator<Uint8Array> {
  let received = 0n;
  for await (const { message } of open()) {
    if (message.case === "chunk") {
      if (message.value.offset !== received) {
        throw systemError("bytes of the export are missing");
      }
      received += BigInt(message.value.data.length);
      yield message.value.data;
    } else if (message.case === "end") {
      if (message.value.totalBytes !== received) {
        throw systemError(`bytes of the export are missing: ${received} of ${message.value.totalBytes} came`);
      }
      return;
    }
  }
  throw systemError("the agent's stream ended before its last message");
}
