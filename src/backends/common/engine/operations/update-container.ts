/** Changing a container's limits and restart policy. */
import { create } from "@bufbuild/protobuf";

import { notImplemented } from "../../../../common/errors.ts";
import {
  HostConfigSchema,
  type Resources,
  ResourcesSchema,
  type RestartPolicy,
} from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { discardMissingLimits } from "../create/discarded-limits.ts";
import { validateHostConfig } from "../create/validate-config.ts";
import { validateResources } from "../create/validate-resources.ts";
import type { EngineContext } from "../context.ts";
import { containerEvent } from "../events/container-events.ts";
import { containerOfId, findContainer } from "../lookup.ts";
import { updateRefusal } from "../machine/refusals.ts";
import { saidOf, updatedHostConfig } from "../machine/update-limits.ts";
import { hasProcess, hostConfigOf, withFields } from "../records.ts";
import { reseal } from "../reseal.ts";
import { askAgent } from "./running-agent.ts";
import { withErrorPrefix } from "./error-prefix.ts";

/**
 * Changes a container's settings; the limits of one that runs at once.
 *
 * @param resources what is zero or unset stays
 * @param restartPolicy absent, or without a name: stays
 * @returns warnings of limits that the machine cannot keep
 * @throws not-found; invalid; conflict: what is asked contradicts what is set, or it is being removed; not-implemented:
 *   this backend cannot change the limits of a running container
 */
export async function updateContainer(
  context: EngineContext,
  reference: string,
  resources: Resources | undefined,
  restartPolicy: RestartPolicy | undefined,
): Promise<readonly string[]> {
  const said = resources ?? create(ResourcesSchema);
  validateHostConfig(create(HostConfigSchema, restartPolicy === undefined ? {} : { restartPolicy }));
  validateResources(said, context.facts.ncpu, true);
  const { resources: changes, warnings } = discardMissingLimits(said, context.facts.missingLimits);
  const { id } = findContainer(context.state, reference);
  const live = context.live.of(id);
  const failing = `Cannot update container ${id}`;
  await live.lock.run(async () => {
    const record = containerOfId(context.state, id, reference);
    const refusal = updateRefusal(record, live.removing);
    await withErrorPrefix(failing, async () => {
      if (refusal !== undefined) {
        throw refusal;
      }
      const hostConfig = updatedHostConfig(hostConfigOf(record), changes, restartPolicy);
      const changed = saidOf(changes);
      if (hasProcess(record) && Object.keys(changed).length > 0) {
        const ociResources = encodedLimits(context, create(ResourcesSchema, changed as Resources));
        await askAgent(live, (agent, options) => agent.update({ ociResources }, options));
      }
      await context.state.commit((change) => {
        change.containers.put(withFields(record, { hostConfig }));
        change.event(containerEvent(record, "update"));
      });
      await reseal(context, id);
    });
  });
  return warnings;
}

function encodedLimits(context: EngineContext, limits: Resources): Uint8Array {
  const { driver } = context;
  if (driver.workloads.encodeLimits === undefined) {
    throw notImplemented(`the ${driver.name} backend cannot change the limits of a running container`);
  }
  return driver.workloads.encodeLimits(limits);
}
