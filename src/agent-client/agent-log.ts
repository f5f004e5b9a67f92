/** Reads an agent's log by a typed call, for callers that need its records instead of a bulk stream. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentTarget } from "./address.ts";
import { createAgentClient } from "./client.ts";
import { systemError } from "../common/errors.ts";
import type { LogChunk, LogsRequestSchema, LogsResponse } from "../gen/sockerless/agent/v1/agent_pb.ts";

/** Bytes on their way: an agent on a slow line has seconds for the whole log. */
const logWindow = 4 * 1024 * 1024;

/** Milliseconds of silence after which the agent counts as lost; it sends heartbeats. */
const silenceMs = 30_000;

/** Yields the agent's log until its end. @throws the call's error; system if the stream was cut */
export async function* agentLog(
  agent: AgentTarget,
  containerId: string,
  request: MessageInitShape<typeof LogsRequestSchema>,
  signal: AbortSignal,
): AsyncGenerator<LogChunk> {
  const ended = new AbortController();
  const scope = AbortSignal.any([signal, ended.signal]);
  const { client, close } = createAgentClient(agent.address, {
    containerId,
    window: logWindow,
    ...(agent.credentials === undefined ? {} : { credentials: agent.credentials }),
  });
  const silent = (): void => ended.abort(systemError("the agent says nothing any more"));
  // Records of what is there come without a pause.
  const isHeard = ({ message }: LogsResponse): boolean =>
    request.records !== true || request.follow === true || message.case !== "heartbeat";
  try {
    for await (const { message } of watched(client.logs(request, { signal: scope }), silent, isHeard)) {
      if (message.case === "end") {
        return;
      }
      if (message.case === "chunk") {
        yield message.value;
      }
    }
  } finally {
    close();
  }
  throw systemError("the agent's log ended before its last message");
}

/**
 * Yields an agent's messages as they arrive.
 *
 * @param silent called after waiting {@link silenceMs} for a message; the reader's own time does not count
 * @param isHeard selects messages; others are withheld, and count as silence
 */
export async function* watched<Message>(
  messages: AsyncIterable<Message>,
  silent: () => void,
  isHeard: (message: Message) => boolean = () => true,
): AsyncGenerator<Message> {
  let timer = setTimeout(silent, silenceMs);
  try {
    for await (const message of messages) {
      if (!isHeard(message)) {
        continue;
      }
      clearTimeout(timer);
      yield message;
      timer = setTimeout(silent, silenceMs);
    }
  } finally {
    clearTimeout(timer);
  }
}
