/** Releases the resources of ended runs, in the background. */
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import type { NetworkEndpoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { announceRelease, releaseAddresses } from "../../networks/endpoint-addresses.ts";
import { configOf, hasProcess, isRemoved, withState } from "../../../model/records.ts";
import { keepTrying } from "../../work/keep-trying.ts";

/**
 * Has the driver release the run, retrying until that succeeds, the backend ends, or it is no longer necessary.
 * `live.released` resolves with the first attempt, successful or not, and is replaced for each further one; only then
 * are the run's addresses free, for which others wait.
 *
 * @param endpoints those of the run
 * @param canBeFollowed the run ended successfully, so that another step of the same build may follow in its sandbox
 */
export function releaseRun(
  context: EngineContext,
  live: LiveContainer,
  endpoints: Record<string, NetworkEndpoint>,
  canBeFollowed = false,
): void {
  const before = live.released;
  const generation = context.state.containers.get(live.id)?.generation;
  const attempt = async (): Promise<void> => {
    await context.driver.workloads.release(live.id);
    await recordInterruption(context, live, generation);
  };
  const first = Promise.withResolvers<void>();
  live.released = first.promise;
  announceRelease(context.addresses, endpoints, first.promise);
  let isFirst = true;
  const what = `release what container ${live.id} left`;
  const work = async (): Promise<void> => {
    if (!isFirst) {
      await releaseAgain(context, live, generation, attempt);
      return;
    }
    isFirst = false;
    let isKept = false;
    try {
      await before;
      isKept = await releaseOrLeave(context, live, canBeFollowed);
      await recordInterruption(context, live, generation);
    } finally {
      if (isKept) {
        live.kept = endpoints;
      } else {
        releaseAddresses(context.addresses, endpoints);
      }
      first.resolve();
    }
  };
  void context.background.run(what, () => keepTrying(context, what, work));
}

/** Releases a run, unless it was a build step whose sandbox is kept for the next one. */
async function releaseOrLeave(
  { driver, state }: EngineContext,
  live: LiveContainer,
  canBeFollowed: boolean,
): Promise<boolean> {
  const { steps } = driver.launches;
  const record = state.containers.get(live.id);
  const isStep = record !== undefined && !isRemoved(record) && isOfBuild(configOf(record).labels);
  if (steps.kind === "in-fresh-files" && canBeFollowed && isStep) {
    return await steps.leave(live.id);
  }
  await driver.workloads.release(live.id);
  return false;
}

/**
 * Retries the release, unless the container was started since, which a release would end, or removed, which includes
 * the release.
 */
async function releaseAgain(
  { state }: EngineContext,
  live: LiveContainer,
  generation: bigint | undefined,
  attempt: () => Promise<void>,
): Promise<void> {
  const begun = await live.lock.run(() => {
    const record = state.containers.get(live.id);
    if (record === undefined || isRemoved(record) || record.generation !== generation) {
      return Promise.resolve(undefined);
    }
    const releasing = attempt();
    live.released = releasing.catch(() => undefined); // The next start waits for it.
    return Promise.resolve({ releasing });
  });
  await begun?.releasing;
}

/** Adds the external cause of a run's end to its record. */
async function recordInterruption(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint | undefined,
): Promise<void> {
  const error = context.driver.workloads.interruptionOf(live.id);
  const record = context.state.containers.get(live.id);
  if (error === "" || record === undefined || record.generation !== generation || hasProcess(record)) {
    return;
  }
  await context.state.commit((change) => change.containers.put(withState(record, { error })), "happened");
}
