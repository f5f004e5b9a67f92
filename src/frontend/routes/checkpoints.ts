/** `/containers/{name}/checkpoints`: answered as by a dockerd without experimental features. */
import { notImplemented } from "../../common/errors.ts";
import type { HttpMethod, ReplyRoute, Route } from "../router.ts";

const disabled =
  "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.";

/** The routes of checkpoints; they precede those of containers, whose names may have slashes. */
export const checkpointRoutes: readonly Route[] = [
  experimental("GET", "/containers/{name}/checkpoints"),
  experimental("POST", "/containers/{name}/checkpoints"),
  experimental("DELETE", "/containers/{name}/checkpoints/{checkpoint}"),
];

function experimental(method: HttpMethod, path: string): ReplyRoute {
  return {
    method,
    path,
    answeredBy: "nobody",
    note: "As dockerd without experimental features.",
    handler: () => Promise.reject(notImplemented(disabled)),
  };
}
