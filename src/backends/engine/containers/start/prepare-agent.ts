/** Readying a container and its agent for the call that begins the process. */
import { joinPartners } from "../../networks/partner-pushes.ts";
import { workloadOf } from "../create/workload.ts";
import { putLayers } from "./put-layers.ts";
import { made, type Start } from "./start.ts";
import { refuseOldAgent, startRequestOf } from "./start-process.ts";

/**
 * Joins the container to those of its networks, puts the files into it that it is without, and agrees with its agent on what
 * it is to run.
 *
 * @throws system: the agent is too old for it; what the driver and the agent throw
 */
export async function prepareAgent(start: Start): Promise<void> {
  const { context, live, record, ended, secrets, step } = start;
  const { link, placed } = made(start.met);
  const { launches } = context.driver;
  await joinPartners(context, placed);
  const details = await launches.startDetails({
    ...workloadOf(context, placed, "joined"), // A linked container may have moved meanwhile.
    ...(secrets === undefined ? {} : { secrets }),
  });
  const changesAnew = step !== undefined && launches.steps.kind === "in-its-files";
  const request = { ...startRequestOf(context, live, placed, details), changesAnew };
  const count = step?.missingLayers ?? 0;
  await refuseOldAgent(link, request, count);
  if (count > 0) {
    await putLayers(context.images, link, { imageId: record.imageId, count }, ended);
  }
  start.request = request;
}
