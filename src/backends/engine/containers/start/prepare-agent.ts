/** Prepares a container and its agent for the call that starts the process. */
import { joinPartners } from "../../networks/partner-pushes.ts";
import { workloadOf } from "../create/workload.ts";
import { putLayers } from "./put-layers.ts";
import { made, type Start } from "./start.ts";
import { startRequestOf } from "./start-process.ts";

/**
 * Joins the container to those that share its network, adds missing layers to its files, and prepares the request for
 * its agent.
 *
 * @throws the errors of driver and agent
 */
export async function prepareAgent(start: Start): Promise<void> {
  const { context, live, record, ended, secrets, step } = start;
  const { link, placed } = made(start.met);
  const { launches } = context.driver;
  await joinPartners(context, placed);
  const details = await launches.startDetails({
    ...workloadOf(context, placed, "joined"), // A linked container may have another address by now.
    ...(secrets === undefined ? {} : { secrets }),
  });
  const changesAnew = step !== undefined && launches.steps.kind === "in-its-files";
  const count = step?.missingLayers ?? 0;
  if (count > 0) {
    await putLayers(context.images, link, { imageId: record.imageId, count }, ended);
  }
  start.request = { ...startRequestOf(live, placed, details), changesAnew };
}
