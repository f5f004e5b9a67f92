/** Events of a health check's probe, which is an exec. Pure. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { newId } from "../../../../common/ids.ts";
import type { HealthResult } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../../state/journal.ts";
import { agentHealthCheck } from "../../containers/decisions/life/health.ts";
import { configOf, nanosecondsOf } from "../../../model/records.ts";
import { commandEndEvent, commandEvent } from "./command-events.ts";

/** Exit code of a process that was killed (128 + SIGKILL). */
const killedCode = 137;

/**
 * The events of a finished probe, with its start and end times: the agent runs it by itself and reports it once. One
 * that could not be started has no end event.
 *
 * @param nowNs upper bound of event times
 */
export function probeEvents(container: ContainerRecord, result: HealthResult, nowNs: bigint): NewEvent[] {
  const command = agentHealthCheck(configOf(container))?.args ?? [];
  const began = notAfter(nowNs, result.start);
  const ended = notAfter(nowNs, result.end);
  const id = newId();
  const exitCode = result.killed ? killedCode : result.exitCode;
  return [
    commandEvent(container, "exec_create", id, command, began),
    commandEvent(container, "exec_start", id, command, began),
    ...(exitCode < 0 ? [] : [commandEndEvent(container, id, exitCode, ended)]),
  ];
}

/** The journal's times only increase: an agent with a wrong clock would shift all later events. */
function notAfter(nowNs: bigint, told: Timestamp | undefined): bigint | undefined {
  const reportedNs = told && nanosecondsOf(told);
  return reportedNs !== undefined && reportedNs > nowNs ? nowNs : reportedNs;
}
