/** `/containers`: pausing, renaming, updating and pruning them, and what runs in them. */
import { readBody } from "../bodies/read-body.ts";
import { listOrNull } from "../convert/json-values.ts";
import { readFilters } from "../filters.ts";
import { text } from "../http/query.ts";
import { replyEmpty, replyJson } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** The routes of the verbs. */
export const containerVerbRoutes: readonly Route[] = [
  { method: "POST", path: "/containers/prune", handler: postContainersPrune },
  { method: "GET", path: "/containers/{name}/top", handler: getContainersTop },
  { method: "POST", path: "/containers/{name}/pause", handler: postContainersPause },
  { method: "POST", path: "/containers/{name}/unpause", handler: postContainersUnpause },
  { method: "POST", path: "/containers/{name}/rename", handler: postContainersRename },
  { method: "POST", path: "/containers/{name}/update", handler: postContainersUpdate },
];

async function postContainersPause(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  await services.backend.containers.pauseContainer({ container: nameOf(context) }, { signal });
  replyEmpty(response, 204);
}

async function postContainersUnpause(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  await services.backend.containers.unpauseContainer({ container: nameOf(context) }, { signal });
  replyEmpty(response, 204);
}

async function postContainersRename(context: ReplyContext): Promise<void> {
  const { query, signal, services, response } = context;
  const name = text(query, "name");
  await services.backend.containers.renameContainer({ container: nameOf(context), name }, { signal });
  replyEmpty(response, 204);
}

async function postContainersUpdate(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  const { fields } = await readBody(context, "updateContainer");
  const { warnings } = await services.backend.containers.updateContainer(
    { container: nameOf(context), ...fields },
    { signal },
  );
  replyJson(response, 200, { Warnings: listOrNull(warnings) });
}

async function getContainersTop(context: ReplyContext): Promise<void> {
  const { query, signal, services, response } = context;
  const { titles, processes } = await services.backend.containers.topContainer(
    { container: nameOf(context), psArgs: text(query, "ps_args") },
    { signal },
  );
  replyJson(response, 200, { Processes: processes.map(({ values }) => values), Titles: titles });
}

async function postContainersPrune({ query, signal, services, response }: ReplyContext): Promise<void> {
  const { removed, spaceReclaimed } = await services.backend.containers.pruneContainers(
    { filters: readFilters(query) },
    { signal },
  );
  replyJson(response, 200, { ContainersDeleted: listOrNull(removed), SpaceReclaimed: spaceReclaimed });
}

function nameOf({ parameters }: ReplyContext): string {
  return parameters["name"] ?? "";
}
