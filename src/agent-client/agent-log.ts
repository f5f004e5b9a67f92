/** An agent's log read by a typed call, for callers that want its records and no bulk stream. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentTarget } from "./address.ts";
import { createAgentClient } from "./client.ts";
import { systemError } from "../common/errors.ts";
import type { LogChunk, LogsRequestSchema } from "../gen/sockerless/agent/v1/agent_pb.ts";

/** Milliseconds of silence after which an agent is away; it sends heartbeats. */
const silenceMs = 30_000;

/** Yields an agent's answer, to its end. @throws what the call throws; system: it was cut */
export async function* agentLog(
  agent: AgentTarget,
  containerId: string,
  request: MessageInitShape<typeof LogsRequestSchema>,
  signal?: AbortSignal,
): AsyncGenerator<LogChunk> {
  const ended = new AbortController();
  const scope = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]);
  const { client, close } = createAgentClient(agent.address, {
    containerId,
    ...(agent.credentials === undefined ? {} : { credentials: agent.credentials }),
  });
  const silent = (): void => ended.abort(systemError("the agent says nothing any more"));
  try {
    for await (const { message } of watched(client.logs(request, { signal: scope }), silent)) {
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
 * Yields messages of an agent, as they come.
 *
 * @param silent called when none has come for {@link silenceMs} while one was waited for; a reader may take
 *   its time
 */
export async function* watched<Message>(
  messages: AsyncIterable<Message>,
  silent: () => void,
): AsyncGenerator<Message> {
  let timer = setTimeout(silent, silenceMs);
  try {
    for await (const message of messages) {
      clearTimeout(timer);
      yield message;
      timer = setTimeout(silent, silenceMs);
    }
  } finally {
    clearTimeout(timer);
  }
}
