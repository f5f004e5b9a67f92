/** The messages beside the bulk data of streams that only give: their end, and what else keeps them alive. */
import { Code, ConnectError } from "@connectrpc/connect";

import type {
  ArchiveGetResponse,
  ExportResponse,
  LogsResponse,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { StreamSignal } from "./agent-stream.ts";

/**
 * Decodes a message that opens nothing.
 *
 * @param what the stream gives, as a refusal names it: "a log"
 * @throws ConnectError `DataLoss` for bulk data, which is decoded elsewhere in the form that was agreed on
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
