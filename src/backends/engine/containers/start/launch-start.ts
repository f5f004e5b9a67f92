/** Launches the workload of a start, and connects to its agent. */
import { isDeepStrictEqual } from "node:util";

import { isErrorKind } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched } from "../../../driver/launches.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { placedEndpoints } from "../../../model/endpoints.ts";
import { configOf, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { introduce } from "../../networks/name-pushes.ts";
import { agentOptions } from "../agent/agent-endpoint.ts";
import { workloadOf } from "../create/workload.ts";
import { containerOfId } from "../decisions/lookup.ts";
import { AgentLink } from "../live/agent-link.ts";
import { watchContainer } from "../run/watch-container.ts";
import type { Met, Start } from "./start.ts";
import { reportPhase } from "./report-phases.ts";
import { launchWhileWanted } from "./waiting-start.ts";

/** Unpacks images that were not made runnable at creation, such as states of a build: only a start needs that. */
export async function makeImagesRunnable({ context, record, ended, step }: Start): Promise<void> {
  if (step !== undefined) {
    return; // It runs in the files of the previous step.
  }
  const { images, state } = context;
  const isBuilding = isOfBuild(configOf(record).labels);
  for (const id of [record.imageId, ...record.imageMounts.map(({ imageId }) => imageId)]) {
    const image = state.images.get(id);
    if (image !== undefined && (isBuilding || image.ofBuild)) {
      await images.makeRunnable(image, ended);
    }
  }
}

/** Has the driver launch the container, and connects to its agent as soon as that is reachable. */
export async function launch(start: Start): Promise<void> {
  const { context, live, record, phases, secrets, step } = start;
  const workload = workloadOf(context, record, "joined");
  const once = secrets === undefined ? {} : { secrets };
  const spec = { ...workload, ...once, continues: step !== undefined };
  let meeting: { readonly with: string; readonly met: Promise<Met> } | undefined;
  const meet = async (launched: Launched): Promise<Met> => {
    if (meeting?.with !== launched.reference) {
      meeting = { with: launched.reference, met: meetAgent(start, launched) };
    }
    try {
      return await meeting.met;
    } catch (error) {
      meeting = undefined; // The driver may have it met again.
      throw error;
    }
  };
  const attempt = (): Promise<Launched> =>
    launchWhileWanted(context, live, spec, start.ended, {
      reached: async (reached) => void (await meet(reached)),
      phase: (phase) => reportPhase(context, record.id, phases, phase),
      left: live.run.start?.caller?.left,
    });
  const launched = await attempt().catch(async (error: unknown) => {
    if (!(isErrorKind(error, "not-found") && (await bringImagesBack(start)))) {
      throw error;
    }
    return await attempt();
  });
  const { lost } = start;
  const isSame = lost !== undefined && isDeepStrictEqual(lost.agent, launched.agent);
  if (lost?.isAttached === true && !isSame) {
    throw lost.failure;
  }
  start.isTold = start.mayHaveBegun || (isSame && lost.isTold);
  start.launched = launched;
  const met = await meet(launched);
  watchContainer(context, live, met.link); // Until then the run may be lost, and another launched.
  live.reservations.serve(launched.agent);
  start.met = { ...met, launched };
}

/**
 * Unpacks missing layers again, for instance those that `sockerless check` has moved away.
 *
 * @returns false if there is nothing to unpack
 */
async function bringImagesBack({ context, record, ended }: Start): Promise<boolean> {
  const { images, state } = context;
  const ids = [record.imageId, ...record.imageMounts.map(({ imageId }) => imageId)];
  const known = ids.flatMap((id) => state.images.get(id) ?? []);
  const results: boolean[] = [];
  for (const image of known) {
    results.push(await images.unpackAnew(image, ended));
  }
  return results.includes(true);
}

/** Creates the link to the container's agent, and sends the container and its peers each other's names. */
async function meetAgent({ context, live, record }: Start, launched: Launched): Promise<Met> {
  const link = new AgentLink(launched.agent, record.generation, agentOptions(context, record.id));
  live.run.meet(link);
  const placed = await place(context, record, launched);
  await introduce(context, placed);
  return { launched, link, placed };
}

/** The record with the address for peers, if those of its endpoints are virtual. */
async function place(
  context: EngineContext,
  record: ContainerRecord,
  { address }: Launched,
): Promise<ContainerRecord> {
  if (address === undefined) {
    return record;
  }
  // Since the start began, its client may have left, or a user may have stopped it.
  const { startAwaited, stoppedByUser } = containerOfId(context.state, record.id);
  const placed = withFields(record, {
    ...{ startAwaited, stoppedByUser },
    reachableAddress: address,
    endpoints: placedEndpoints(record.endpoints, address),
  });
  await context.state.commit((change) => change.containers.put(placed), "under-way");
  return placed;
}
