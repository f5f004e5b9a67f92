/** Whether a start is still wanted: by its caller, by a policy, or by a caller that may yet retry. */
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import { hostConfigOf, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { restartsAtBoot } from "../decisions/life/restart-policy.ts";
import { unknownFailureCode } from "../decisions/life/start-failure.ts";
import type { LiveContainer } from "../live/live.ts";
import { made, type Start } from "./start.ts";
import { StartCaller, type StartCallerOptions } from "./start-caller.ts";
import { startedProcessOf } from "./start-process.ts";

/**
 * Creates the caller of a start.
 *
 * @param mayHaveBegun whether its process may run already, so that only its agent knows if it can be undone
 */
export function callerOf(
  context: EngineContext,
  live: LiveContainer,
  known: Pick<StartCallerOptions, "token" | "isWantedAnyway">,
  mayHaveBegun = false,
) {
  return (ending: AbortController): StartCaller =>
    new StartCaller({
      ...known,
      containerId: live.id,
      clock: context.clock,
      lost: (failure) => mayHaveBegun || ending.abort(failure),
      left: () => void noteCallerLeft(context, live),
    });
}

/** Whether a restart policy wants a start whose client is lost. */
export function isWantedByPolicy(record: ContainerRecord): boolean {
  return restartsAtBoot(hostConfigOf(record).restartPolicy, { code: unknownFailureCode, restartCount: 0 });
}

/**
 * If the caller of a start was lost, waits until it retries: once the agent is told, the process runs.
 *
 * @throws conflict: the caller has not retried; the reason for which the start is cancelled
 */
export async function awaitCaller({ context, live, ended, asked, met }: Start): Promise<void> {
  const { link } = made(met);
  const caller = live.run.start?.caller;
  // A resumed start may have begun though the state, which may be older than the agent, does not know that it was told.
  const isBegun = async (): Promise<boolean> =>
    asked === undefined && (await startedProcessOf(link)) !== undefined;
  if (caller !== undefined && !(caller.isLost && (await isBegun()))) {
    try {
      await withScopedSignal(AbortSignal.any([ended, context.shutdown]), (signal) =>
        unlessAborted(signal, caller.wanted),
      );
    } catch (error) {
      if (!(await isBegun())) {
        throw error;
      }
    }
  }
  ended.throwIfAborted();
}

/** Records that the start in progress has no client waiting: a later process of the backend continues it. */
async function noteCallerLeft({ background, state }: EngineContext, { id }: LiveContainer): Promise<void> {
  await background.run(`note that the start of container ${id} goes on without its client`, async () => {
    const record = state.containers.get(id);
    if (record?.phase === Phase.STARTING && record.startAwaited) {
      await state.commit((change) => change.containers.put(withFields(record, { startAwaited: false })));
    }
  });
}
