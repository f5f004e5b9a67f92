/** Errors of commands that the agent could not execute, in dockerd's words. Pure. */
import { invalid, type SockerlessError, systemError } from "../../../../../common/errors.ts";
import type { StartFailure } from "../../../../../gen/sockerless/agent/v1/agent_pb.ts";

/** Failures outside of the runtime, which get no prefix. */
const whole = /^unable to find (user|group) /;

const prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: ";

/** Exit codes of commands that were not found or are not executable: errors of the request. */
const notFoundCode = 127;
const notExecutableCode = 126;

/** The exit code of a start that failed otherwise. */
export const unknownFailureCode = 128;

/** The error of the start. Clients distinguish 126 from 127 by its words. */
export function startFailureError(failure: StartFailure): SockerlessError {
  const isWhole = failure.message.startsWith(prefix) || whole.test(failure.message);
  let message = isWhole ? failure.message : prefix + failure.message;
  const lower = message.toLowerCase();
  if (failure.exitCode === notExecutableCode && !lower.includes("permission denied")) {
    message += ": permission denied";
  }
  if (lower.includes("not a directory") && !lower.includes("are you trying to mount")) {
    message +=
      ": Are you trying to mount a directory onto a file (or vice-versa)? " +
      "Check if the specified host path exists and is the expected type";
  }
  return failure.exitCode === notFoundCode || failure.exitCode === notExecutableCode
    ? invalid(message)
    : systemError(message);
}
