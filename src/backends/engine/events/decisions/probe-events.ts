/** A health check's probe as the exec that it is. Pure. */
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
 * The events of a probe that has ended, with the times at which it began and ended: the agent runs it by itself and
 * tells of it once. One that could not be started has no end.
 *
 * @param nowNs no event is later than that
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

/** The journal's times only rise: an agent that is wrong about the time would date everybody's later events. */
function notAfter(nowNs: bigint, told: Timestamp | undefined): bigint | undefined {
  const toldNs = told && nanosecondsOf(told);
  return toldNs !== undefined && toldNs > nowNs ? nowNs : toldNs;
}
