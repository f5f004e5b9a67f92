/** The messages without bulk data of output-only streams: the end, and heartbeats. */
import { Code, ConnectError } from "@connectrpc/connect";

import type {
  ArchiveGetResponse,
  ExportResponse,
  LogsResponse,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { StreamSignal } from "./agent-stream.ts";

/**
 * Decodes a message other than the opening one.
 *
 * @param what the stream carries, for error messages: "a log"
 * @throws ConnectError `DataLoss` for bulk data in an unexpected encoding; the expected one is decoded elsewhere
 */
export function decodeGiven(
  message: (LogsResponse | ExportResponse | ArchiveGetResponse)["message"],
  what: string,
): StreamSignal {
  switch (message.case) {
    case "end":
      return {
        type: "ended",
        outcome: { kind: "complete", totalBytes: Number(message.value.totalBytes) },
      };
    case "offer":
      return { type: "offered", offer: message.value };
    case "chunk":
      throw new ConnectError(`the agent sent ${what} in a form that was not agreed on`, Code.DataLoss);
    default:
      return { type: "heartbeat" };
  }
}
