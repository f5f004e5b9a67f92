/** The methods of ContainerService that inspect and change existing containers. */
import type { ServiceImpl } from "@connectrpc/connect";

import type { ContainerService } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import type { EngineContext } from "../context.ts";
import { OneAtATime } from "../../concurrency/one-at-a-time.ts";
import { openStats } from "../containers/streams/open-stats.ts";
import { pauseContainer, unpauseContainer } from "../containers/run/pause-container.ts";
import { pruneContainers } from "../containers/remove/prune-containers.ts";
import { renameContainer } from "../containers/run/rename-container.ts";
import { topContainer } from "../containers/streams/top-container.ts";
import { updateContainer } from "../containers/run/update-container.ts";

/** Implements them for an engine. */
export function containerVerbs(context: EngineContext) {
  const prunes = new OneAtATime();
  return {
    pauseContainer: async ({ container }, { signal }) => {
      await pauseContainer(context, container, "user", signal);
      return {};
    },
    unpauseContainer: async ({ container }, { signal }) => {
      await unpauseContainer(context, container, signal);
      return {};
    },
    renameContainer: async ({ container, name }, { signal }) => {
      await renameContainer(context, container, name, signal);
      return {};
    },
    updateContainer: async ({ container, resources, restartPolicy }, { signal }) => ({
      warnings: [...(await updateContainer(context, container, resources, restartPolicy, signal))],
    }),
    topContainer: async ({ container, psArgs }, call) => {
      const { titles, processes } = await topContainer(context, container, psArgs, call.signal);
      return { titles, processes: processes.map(({ columns }) => ({ values: columns })) };
    },
    openStats: ({ container, access }) => openStats(context, container, access),
    pruneContainers: async ({ filters }, call) => {
      const { removed, spaceReclaimed } = await prunes.run(() =>
        pruneContainers(context, filters, call.signal),
      );
      return { removed: [...removed], spaceReclaimed };
    },
  } satisfies Partial<ServiceImpl<typeof ContainerService>>;
}
