/** Reads the log records of an agent. */
import type { AgentTarget } from "../../../agent-client/address.ts";
import { agentLog, type LogPart } from "../../../agent-client/agent-log.ts";
import { linesBegun, piecesOf } from "./log-pieces.ts";
import { type RawRecord, readRecords } from "./log-record.ts";
import type { Pace } from "./pace.ts";

/** All log records of an agent. @throws as {@link agentLog}; system: malformed log */
export function agentRecords(
  agent: AgentTarget,
  containerId: string,
  signal: AbortSignal,
): AsyncGenerator<RawRecord> {
  return readRecords(dataOf(agentLog(agent, containerId, { records: true }, signal)));
}

/** Number of log lines of an agent, counted up to a limit. */
export async function countLines(
  agent: AgentTarget,
  containerId: string,
  limit: bigint,
  pace: Pace,
  signal: AbortSignal,
): Promise<bigint> {
  let lines = 0;
  if (limit > 0n) {
    for await (const piece of piecesOf(pace.each(agentRecords(agent, containerId, signal)))) {
      lines += linesBegun(piece);
      if (lines >= limit) {
        return limit;
      }
    }
  }
  return BigInt(lines);
}

async function* dataOf(parts: AsyncIterable<LogPart>): AsyncGenerator<Uint8Array> {
  for await (const { data } of parts) {
    yield data;
  }
}
