/** `/containers/{name}/checkpoints`, which needs CRIU. */
import { notBuilt } from "../not-built.ts";
import type { Route } from "../router.ts";

const feature = "docker checkpoint";

/** The routes of checkpoints; they go before those of containers, whose names may have slashes. */
export const checkpointRoutes: readonly Route[] = [
  notBuilt("GET", "/containers/{name}/checkpoints", feature),
  notBuilt("POST", "/containers/{name}/checkpoints", feature),
  notBuilt("DELETE", "/containers/{name}/checkpoints/{checkpoint}", feature),
];
