/** `AgentService.Tunnel`: a connection to a port of the container. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import type { ErrorKind } from "../common/errors.ts";
import {
  TunnelErrorReason,
  type TunnelOpenSchema,
  TunnelRequestSchema,
  TunnelResponseSchema,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { StreamKind, StreamSignal } from "./agent-stream.ts";
import { tunnelDataTag, tunnelOutput } from "./bulk-messages.ts";

const kindOfReason: Readonly<Record<TunnelErrorReason, ErrorKind>> = {
  [TunnelErrorReason.UNSPECIFIED]: "system",
  [TunnelErrorReason.REFUSED]: "unavailable",
  [TunnelErrorReason.UNREACHABLE]: "unavailable",
  [TunnelErrorReason.RESET]: "system",
  [TunnelErrorReason.INTERNAL]: "system",
};

/** TCP tunnels: bytes both ways; each direction ends separately. */
export const tunnelStream: StreamKind = {
  path: "/sockerless.agent.v1.AgentService/Tunnel",
  shape: tunnelOutput,
  inputTag: tunnelDataTag,
  heartbeat: toBinary(
    TunnelRequestSchema,
    create(TunnelRequestSchema, { message: { case: "heartbeat", value: {} } }),
  ),
  expectsHeartbeats: true,
  inputEnd: (inputBytes) => ({
    message: toBinary(
      TunnelRequestSchema,
      create(TunnelRequestSchema, { message: { case: "end", value: { totalBytes: BigInt(inputBytes) } } }),
    ),
    last: false,
  }),
  decode: (bytes) => signalOf(bytes),
};

/** Encodes the first message of a tunnel. */
export function encodeTunnelOpen(open: MessageInitShape<typeof TunnelOpenSchema>): Uint8Array {
  return toBinary(
    TunnelRequestSchema,
    create(TunnelRequestSchema, { message: { case: "open", value: open } }),
  );
}

function signalOf(bytes: Uint8Array): StreamSignal {
  const { message } = fromBinary(TunnelResponseSchema, bytes);
  switch (message.case) {
    case "opened":
      return { type: "opened", opened: { kind: "tunnel" } };
    case "end":
      return { type: "output-ended", totalBytes: Number(message.value.totalBytes) };
    case "error": {
      const { reason, message: text } = message.value;
      return {
        type: "failed",
        failure: { kind: kindOfReason[reason] ?? "system", message: text, exitCode: 0 },
      };
    }
    case "data":
      throw new ConnectError(
        "the agent sent a tunnel's data in a form that was not agreed on",
        Code.DataLoss,
      );
    default:
      // A heartbeat, or a message of a later version.
      return { type: "heartbeat" };
  }
}
