/** RPC implementation of ExecService. */
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";

import { ExecConfigSchema, type ExecService } from "../../../gen/sockerless/backend/v1/exec_pb.ts";
import { ExecPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { exitCodeOf } from "../execs/exec-ends.ts";
import { isExecOpen } from "../execs/decisions/exec-machine.ts";
import { createExec, findExec, inspectExec, resizeExec } from "../execs/execs.ts";
import { startExec } from "../execs/start-exec.ts";

/** Implements the service for an engine. */
export function execService(context: EngineContext): ServiceImpl<typeof ExecService> {
  return {
    createExec: async ({ container, config }, { signal }) => ({
      id: await createExec(context, container, config, signal),
    }),
    startExec: (request, { signal }) => startExec(context, request, signal),
    awaitExec: async ({ execId }, call) => {
      findExec(context, execId);
      const signal = AbortSignal.any([call.signal, context.shutdown]);
      return { exitCode: await exitCodeOf(context, execId, signal) };
    },
    inspectExec: async ({ execId }, { signal }) => {
      const exec = await inspectExec(context, execId, signal);
      const config = exec.config ?? create(ExecConfigSchema);
      return {
        id: exec.id,
        containerId: exec.containerId,
        running: isExecOpen(exec),
        ...(exec.exitCode === undefined ? {} : { exitCode: exec.exitCode }),
        pid: exec.pid,
        config: { ...config, env: [], cmd: shownCommand(config.cmd) },
        canRemove: exec.phase === ExecPhase.ENDED,
        openStdin: config.attachStdin,
        openStdout: config.attachStdout,
        openStderr: config.attachStderr,
      };
    },
    resizeExec: async ({ execId, height, width }, { signal }) => {
      await resizeExec(context, execId, { height, width }, signal);
      return {};
    },
  };
}

/** UTF-16 code units of a command that an inspect shows: one of megabytes, asked for by a crowd, would hold up others. */
const shownCharacters = 64 * 1024;

/** The arguments that an inspect shows; an empty one counts too. */
function shownCommand(cmd: readonly string[]): string[] {
  const shown: string[] = [];
  let left = shownCharacters;
  for (const argument of cmd) {
    if (left <= 0) {
      break;
    }
    shown.push(argument.slice(0, left));
    left -= argument.length + 1;
  }
  return shown;
}
