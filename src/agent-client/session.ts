/** `AgentService.Session`: an exec or an attachment. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import type { ErrorKind } from "../common/errors.ts";
import {
  type OpenAttachSchema,
  type OpenExecSchema,
  SessionErrorReason,
  SessionRequestSchema,
  SessionResponseSchema,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { StreamKind, StreamSignal } from "./agent-stream.ts";
import { sessionOutput, stdinTag } from "./bulk-messages.ts";

const kindOfReason: Readonly<Record<SessionErrorReason, ErrorKind>> = {
  [SessionErrorReason.UNSPECIFIED]: "system",
  [SessionErrorReason.START_FAILED]: "invalid",
  [SessionErrorReason.NOT_RUNNING]: "conflict",
  [SessionErrorReason.PAUSED]: "conflict",
  [SessionErrorReason.EXISTS]: "conflict",
  [SessionErrorReason.INTERNAL]: "system",
};

const closeStdin = toBinary(
  SessionRequestSchema,
  create(SessionRequestSchema, { message: { case: "closeStdin", value: {} } }),
);

const leave = toBinary(
  SessionRequestSchema,
  create(SessionRequestSchema, { message: { case: "leave", value: {} } }),
);

const keep = toBinary(
  SessionRequestSchema,
  create(SessionRequestSchema, { message: { case: "keep", value: {} } }),
);

/** Sessions: input is stdin, output is stdout and stderr. */
export const sessionStream: StreamKind = {
  path: "/sockerless.agent.v1.AgentService/Session",
  shape: sessionOutput,
  inputTag: stdinTag,
  heartbeat: toBinary(
    SessionRequestSchema,
    create(SessionRequestSchema, { message: { case: "heartbeat", value: {} } }),
  ),
  expectsHeartbeats: true,
  inputEnd: () => ({ message: closeStdin, last: false }),
  leave,
  keep,
  decode: (bytes) => signalOf(bytes),
};

/** Encodes the first message of a session that runs a process. */
export function encodeOpenExec(open: MessageInitShape<typeof OpenExecSchema>): Uint8Array {
  return toBinary(
    SessionRequestSchema,
    create(SessionRequestSchema, { message: { case: "openExec", value: open } }),
  );
}

/** Encodes the first message of a session that attaches to the main process. */
export function encodeOpenAttach(open: MessageInitShape<typeof OpenAttachSchema>): Uint8Array {
  return toBinary(
    SessionRequestSchema,
    create(SessionRequestSchema, { message: { case: "openAttach", value: open } }),
  );
}

function signalOf(bytes: Uint8Array): StreamSignal {
  const { message } = fromBinary(SessionResponseSchema, bytes);
  switch (message.case) {
    case "started": {
      const { pid, tty, offer } = message.value;
      return { type: "opened", opened: { kind: "session", pid: Number(pid), tty }, offer };
    }
    case "handed":
      return { type: "handed" };
    case "carried": {
      const { inputBytes, outputBytes } = message.value;
      return { type: "carried", bytes: { input: Number(inputBytes), output: Number(outputBytes) } };
    }
    case "exit":
      return { type: "ended", outcome: { kind: "exit", exitCode: message.value.code } };
    case "detached":
      return { type: "ended", outcome: { kind: "detached" } };
    case "error": {
      const { reason, message: text, exitCode } = message.value;
      return { type: "failed", failure: { kind: kindOfReason[reason] ?? "system", message: text, exitCode } };
    }
    case "stdout":
    case "stderr":
      throw new ConnectError("the agent sent output in a form that was not agreed on", Code.DataLoss);
    default:
      // A heartbeat, or a message of a later version.
      return { type: "heartbeat" };
  }
}
