/** `AgentService.Logs`: a container's recorded output. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { LogsRequestSchema, LogsResponseSchema } from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { StreamKind } from "./agent-stream.ts";
import { decodeGiven } from "./bulk-end.ts";
import { logsOutput, recordsOutput } from "./bulk-messages.ts";

/** Logs: no input; output is the recorded stdout and stderr. */
export const logsStream: StreamKind = {
  path: "/sockerless.agent.v1.AgentService/Logs",
  shape: logsOutput,
  inputTag: undefined,
  heartbeat: undefined,
  expectsHeartbeats: true,
  openedByDefault: { kind: "logs" },
  decode: (bytes) => decodeGiven(fromBinary(LogsResponseSchema, bytes).message, "a log"),
};

/** Records of what is there, whose chunks name no stream. */
export const recordsStream: StreamKind = { ...logsStream, shape: recordsOutput, comesWithoutPause: true };

/** Encodes the request for a log stream. */
export function encodeLogsRequest(request: MessageInitShape<typeof LogsRequestSchema>): Uint8Array {
  return toBinary(LogsRequestSchema, create(LogsRequestSchema, request));
}
