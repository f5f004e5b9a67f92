/** All endpoints. The order matters only among routes whose paths overlap: the first match is taken. */
import type { Route } from "./router.ts";
import { archiveRoutes } from "./routes/archive.ts";
import { attachRoutes } from "./routes/attach.ts";
import { checkpointRoutes } from "./routes/checkpoints.ts";
import { containerVerbRoutes } from "./routes/container-verbs.ts";
import { buildRoutes } from "./routes/build.ts";
import { changesRoutes } from "./routes/changes.ts";
import { containerRoutes } from "./routes/containers.ts";
import { eventRoutes } from "./routes/events.ts";
import { execRoutes } from "./routes/exec.ts";
import { imageTransferRoutes } from "./routes/image-transfers.ts";
import { imageRoutes } from "./routes/images.ts";
import { logsRoutes } from "./routes/logs.ts";
import { networkRoutes } from "./routes/networks.ts";
import { statsRoutes } from "./routes/stats.ts";
import { swarmRoutes, systemRoutes } from "./routes/system.ts";
import { volumeRoutes } from "./routes/volumes.ts";

/** The whole table. */
export const routes: readonly Route[] = [
  ...systemRoutes,
  ...buildRoutes,
  ...checkpointRoutes,
  ...containerRoutes,
  ...containerVerbRoutes,
  ...statsRoutes,
  ...execRoutes,
  ...attachRoutes,
  ...logsRoutes,
  ...archiveRoutes,
  ...changesRoutes,
  ...imageRoutes,
  ...imageTransferRoutes,
  ...networkRoutes,
  ...volumeRoutes,
  ...eventRoutes,
  ...swarmRoutes,
];
