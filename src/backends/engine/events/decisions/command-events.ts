/** Events of an additional process in a container: an exec, or a health check's probe. Pure. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../../state/journal.ts";
import { containerEvent } from "./container-events.ts";

/** The most characters of a command in an event: thousands of events are kept. */
const mostCharacters = 16_384;

/** `exec_create: CMD`, `exec_start: CMD`. */
export function commandEvent(
  container: ContainerRecord,
  action: "exec_create" | "exec_start",
  execID: string,
  command: readonly string[],
  timeUnixNs?: bigint,
): NewEvent {
  // Docker appends a space to a command without arguments.
  const [path = "", ...args] = command;
  const text = `${path} ${args.join(" ")}`.slice(0, mostCharacters);
  return containerEvent(container, `${action}: ${text}`, { execID }, timeUnixNs);
}

/** `exec_die`. */
export function commandEndEvent(
  container: ContainerRecord,
  execID: string,
  exitCode: number,
  timeUnixNs?: bigint,
): NewEvent {
  return containerEvent(container, "exec_die", { execID, exitCode: String(exitCode) }, timeUnixNs);
}
