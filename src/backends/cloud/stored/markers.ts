/** Prefixes of lines in the cloud's log, which distinguish stderr and the agent's own lines from stdout. Pure. */
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LogPiece } from "../contract/cloud-log.ts";

/** The prefix of a container's output: stream and flags of the line. */
const outputMark = /^\[(?<name>stdout|stderr)(?: (?<signs>%?-?\+?))?\] /;
const agentMark = "[sockerless] ";

/** A line, or a part of one, as written by the container. */
export type TeedLine = Omit<LogPiece, "timeNs">;

/** The agent's own line, which is not the container's output; undefined for output. */
export function agentLine(message: string): string | undefined {
  return message.startsWith(agentMark) ? message.slice(agentMark.length) : undefined;
}

/** Removes the agent's prefix from a line, and restores its newline. */
export function untee(message: string): TeedLine {
  const mark = outputMark.exec(message);
  const { name, signs = "" } = mark?.groups ?? {};
  const text = message.slice(mark?.[0].length ?? 0);
  const ends = !signs.includes("+");
  const written = signs.includes("%") ? unescaped(text) : Buffer.from(text);
  return {
    stream: name === "stderr" ? Stream.STDERR : Stream.STDOUT,
    data: ends ? Buffer.concat([written, Buffer.from("\n")]) : written,
    begins: !signs.includes("-"),
    ends,
  };
}

/** Bytes that are not valid UTF-8 are encoded as `%` and two digits. */
function unescaped(text: string): Buffer {
  const [first = "", ...rest] = text.split("%");
  return Buffer.concat([
    Buffer.from(first),
    ...rest.flatMap((part) => [Buffer.from(part.slice(0, 2), "hex"), Buffer.from(part.slice(2))]),
  ]);
}
