/** Renames containers. */
import { setOwnValue } from "../../../../common/own-value.ts";
import { invalid } from "../../../../common/errors.ts";
import type { NetworkEndpoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { containerOfId, findContainer } from "../decisions/lookup.ts";
import { nameFor } from "../decisions/names.ts";
import { pushToNetworks } from "../../networks/name-pushes.ts";
import { namedNetworks } from "../../networks/decisions/names.ts";
import { hasProcess, withFields } from "../../../model/records.ts";
import { reseal } from "../agent/reseal.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";

/**
 * Renames a container.
 *
 * @param name with or without the slash
 * @param left ends the wait for other changes of the container; what has begun goes on
 * @throws not-found; invalid: characters, or the same name; conflict: taken
 */
export async function renameContainer(
  context: EngineContext,
  reference: string,
  name: string,
  left: AbortSignal,
): Promise<void> {
  if (reference === "" || name === "") {
    throw invalid("Neither old nor new names may be empty");
  }
  const { id } = findContainer(context.state, reference);
  const rename = async (): Promise<void> => {
    const record = containerOfId(context.state, id, reference);
    const asked = name.startsWith("/") ? name : `/${name}`;
    if (asked === `/${record.name}`) {
      throw invalid("Renaming a container with the same name as its current name");
    }
    await withErrorPrefix("Error when allocating new name", async () => {
      const next = renamed(record, nameFor(context.state, id, asked));
      await context.state.commit((change) => {
        change.containers.put(next);
        change.event(containerEvent(next, "rename", { oldName: `/${record.name}` }));
      });
      if (hasProcess(next)) {
        context.driver.networks.renamed(next);
      }
      await Promise.all([pushToNetworks(context, namedNetworks(next.endpoints)), reseal(context, id)]);
    });
  };
  await context.live.of(id).lock.run(rename, left);
}

function renamed(record: ContainerRecord, name: string): ContainerRecord {
  const endpoints: Record<string, NetworkEndpoint> = {};
  for (const [network, endpoint] of Object.entries(record.endpoints)) {
    const dnsNames = endpoint.dnsNames.map((each) => (each === record.name ? name : each));
    setOwnValue(endpoints, network, { ...endpoint, dnsNames });
  }
  return withFields(record, { name, endpoints });
}
