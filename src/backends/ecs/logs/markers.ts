/** Which stream a line of the cloud's log was written to: the agent says so where it is not plain. Pure. */
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";

const stderrMarker = "[stderr] ";
const stdoutMarker = "[stdout] ";
const agentMarker = "[sockerless] ";

/** A line as the container wrote it. */
export interface TeedLine {
  readonly stream: Stream.STDOUT | Stream.STDERR;
  readonly text: string;
}

/** Whether a line is the agent's own: no output of the container. */
export function isAgentLine(message: string): boolean {
  return message.startsWith(agentMarker);
}

/** Takes off what the agent put before a line. */
export function untee(message: string): TeedLine {
  if (message.startsWith(stderrMarker)) {
    return { stream: Stream.STDERR, text: message.slice(stderrMarker.length) };
  }
  // A line of stdout that begins like a marker has one of its own before it.
  const text = message.startsWith(stdoutMarker) ? message.slice(stdoutMarker.length) : message;
  return { stream: Stream.STDOUT, text };
}
