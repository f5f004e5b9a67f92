/** Updates a container's limits and restart policy. */
import { create } from "@bufbuild/protobuf";

import {
  HostConfigSchema,
  type Resources,
  ResourcesSchema,
  type RestartPolicy,
} from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { discardMissingLimits } from "../decisions/config/discarded-limits.ts";
import { validateHostConfig } from "../decisions/config/validate-config.ts";
import { validateResources } from "../decisions/config/validate-resources.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { lockedAtServingAgent } from "../agent/leaving-agents.ts";
import { containerOfId, findContainer } from "../decisions/lookup.ts";
import { updateRefusal } from "../decisions/life/refusals.ts";
import { givenSettings, updatedHostConfig } from "../decisions/life/update-limits.ts";
import { hasProcess, hostConfigOf, withFields } from "../../../model/records.ts";
import { reseal } from "../agent/reseal.ts";
import { callAgent } from "../agent/running-agent.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";

/**
 * Updates a container's settings; a running container's limits take effect at once.
 *
 * @param resources zero or unset values stay as they are
 * @param restartPolicy unchanged if absent or without a name
 * @param left ends the wait for other changes of the container; what has begun goes on
 * @returns warnings about limits that the machine does not support
 * @throws not-found; invalid; conflict: a contradiction to other settings, or it is being removed; not-implemented:
 *   this backend cannot change the limits of a running container
 */
export async function updateContainer(
  context: EngineContext,
  reference: string,
  resources: Resources | undefined,
  restartPolicy: RestartPolicy | undefined,
  left: AbortSignal,
): Promise<readonly string[]> {
  const said = resources ?? create(ResourcesSchema);
  validateHostConfig(create(HostConfigSchema, restartPolicy === undefined ? {} : { restartPolicy }));
  validateResources(said, context.facts, true);
  const { resources: changes, warnings } = discardMissingLimits(said, context.facts.missingLimits);
  const { id } = findContainer(context.state, reference);
  const live = context.live.of(id);
  const failing = `Cannot update container ${id}`;
  const update = async (): Promise<void> => {
    const record = containerOfId(context.state, id, reference);
    const refusal = updateRefusal(record, live.run.isRemoving);
    await withErrorPrefix(failing, async () => {
      if (refusal !== undefined) {
        throw refusal;
      }
      const hostConfig = updatedHostConfig(hostConfigOf(record), changes, restartPolicy);
      const changed = givenSettings(changes);
      if (hasProcess(record) && Object.keys(changed).length > 0) {
        const ociResources = await context.driver.limits.encode(
          create(ResourcesSchema, changed as Resources),
        );
        await callAgent(live, (agent, options) => agent.update({ ociResources }, options));
      }
      await context.state.commit((change) => {
        change.containers.put(withFields(record, { hostConfig }));
        change.event(containerEvent(record, "update"));
      });
      await reseal(context, id);
    });
  };
  await lockedAtServingAgent(context, live, update, left);
  return warnings;
}
