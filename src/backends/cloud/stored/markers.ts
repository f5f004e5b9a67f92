/** Marks before lines of the cloud's log, which tell stderr and the agent's own lines from stdout. Pure. */
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LogPiece } from "../contract/cloud-log.ts";

/** A mark of the container's output: the stream, and signs of what the line is. */
const outputMark = /^\[(?<name>stdout|stderr)(?: (?<signs>%?-?\+?))?\] /;
const agentMark = "[sockerless] ";

/** A line, or a part of one, as the container wrote it. */
export type TeedLine = Omit<LogPiece, "timeNs">;

/** The agent's own line, which is no output of the container; undefined: it is the container's. */
export function agentLine(message: string): string | undefined {
  return message.startsWith(agentMark) ? message.slice(agentMark.length) : undefined;
}

/** Takes off what the agent put before a line, and gives it the newline that it had. */
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

/** Bytes that are no UTF-8 are written as `%` and two digits. */
function unescaped(text: string): Buffer {
  const [first = "", ...rest] = text.split("%");
  return Buffer.concat([
    Buffer.from(first),
    ...rest.flatMap((part) => [Buffer.from(part.slice(0, 2), "hex"), Buffer.from(part.slice(2))]),
  ]);
}
