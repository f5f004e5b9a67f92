/** Reads the log records of an agent. */
import type { AgentTarget } from "../../../agent-client/address.ts";
import { agentLog } from "../../../agent-client/agent-log.ts";
import type { LogChunk } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { piecesOf } from "./log-pieces.ts";
import { type RawRecord, readRecords } from "./log-record.ts";

/** All log records of an agent. @throws as {@link agentLog}; system: malformed log */
export function agentRecords(agent: AgentTarget, containerId: string): AsyncGenerator<RawRecord> {
  return readRecords(dataOf(agentLog(agent, containerId, { records: true })));
}

/** Number of log lines of an agent, counted up to a limit. */
export async function countLines(agent: AgentTarget, containerId: string, limit: bigint): Promise<bigint> {
  let lines = 0n;
  if (limit > 0n) {
    for await (const { begins } of piecesOf(agentRecords(agent, containerId))) {
      lines += begins ? 1n : 0n;
      if (lines === limit) {
        break;
      }
    }
  }
  return lines;
}

async function* dataOf(chunks: AsyncIterable<LogChunk>): AsyncGenerator<Uint8Array> {
  for await (const { data } of chunks) {
    yield data;
  }
}
